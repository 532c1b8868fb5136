# The commands of a checkout. Each prepares what it needs by itself and says how far it is.
#   make demo     a real network of seven processes computes, loses a peer, is checked and is paid   (ARGS=--cheat)
#   make test     all tests, on up to four cores at once                                             (ARGS="-k lease")
#   make sim      the machines in random small worlds full of faults, every rule checked             (ARGS="--seeds 1000")
#   make plug     hosts of running chunks vanish in a dozen ways: what is lost, and for how long     (ARGS="--seeds 1000")
#   make netlab   the NAT laboratory: real nodes behind every router, struck by every fault; root    (ARGS="-k punch")
#   make attacks  every attack on a live node, an honest peer served meanwhile                       (SHOAL_LONG=1)
#   make fuzz     a million malformed proofs against the parser and the comparing child
#   make engines  work in Blender, OpenMM, ezkl and TenSEAL: honest errors, cheats, jobs; 1.5 GB       (ARGS="-k openmm")
#   make attestation  NVIDIA's SDK in an environment of its own, and what it hands out
#   make corpus   51 ordinary training scripts killed and resumed, bit for bit                      (ARGS="lora k_fold")
#   make soak     kills of a live network, one after the other, and the long failures                (SHOAL_SOAK_KILLS=100)
#   make check    format, lint, types, import contracts, house rules, links of the documents
#   make bench    the figures                      make dist    the wheel and the single node program
#   make format   put the code into shape          make picture the architecture drawn from the imports

.PHONY: attacks attestation engines fuzz corpus soak demo test plug sim netlab check bench dist format picture
ifndef AT_ONCE
.NOTPARALLEL:
endif

# Hundreds of processes of a test run import the same modules: compiled once, not by each of them.
unexport PYTHONDONTWRITEBYTECODE

ARGS ?=
READY := .venv/.ready-requirements.lock
JOBS_READY := .venv-torch/.ready-requirements-jobs.lock
ENGINES_READY := .venv-engines/.ready-requirements-engines.lock
ATTESTATION_READY := .venv-attestation/.ready-requirements-attestation.lock

# The first Python on PATH that is new enough; any at all otherwise, which packaging/prepare.py then explains.
FIND_PYTHON = for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; \
	command -v $$p >/dev/null || { echo "shoal: no python3 on PATH: install Python 3.11 or newer" >&2; exit 1; }; $$p

$(READY): requirements.lock
	@$(FIND_PYTHON) packaging/prepare.py .venv requirements.lock

$(JOBS_READY): requirements-jobs.lock
	@$(FIND_PYTHON) packaging/prepare.py .venv-torch requirements-jobs.lock

$(ENGINES_READY): requirements-engines.lock
	@$(FIND_PYTHON) packaging/prepare.py .venv-engines requirements-engines.lock

$(ATTESTATION_READY): requirements-attestation.lock
	@$(FIND_PYTHON) packaging/prepare.py .venv-attestation requirements-attestation.lock

# Both environments at once: pip takes a minute for each, and one core.
demo:
	@$(MAKE) -s --no-print-directory -j2 AT_ONCE=1 $(READY) $(JOBS_READY)
	@.venv/bin/python -m shoal demo $(ARGS)

test: $(READY)
	@.venv/bin/python -m pytest -q -n auto $(ARGS)

plug: $(READY)
	@.venv/bin/python -m simulations.plug $(ARGS)

sim: $(READY)
	@.venv/bin/python -m simulations.swarm $(ARGS)

netlab: $(READY)
	@.venv/bin/python -m pytest -q -m "netlab or not netlab" tests/netlab $(ARGS)

attacks: $(READY)
	@.venv/bin/python -m pytest -q -m "attack or not attack" tests/attacks $(ARGS)

fuzz: $(READY)
	@SHOAL_LONG=1 .venv/bin/python -m pytest -q tests/adversarial/test_46_malformed_proof.py $(ARGS)

engines: $(READY) $(ENGINES_READY)
	@.venv/bin/python -m pytest -q tests/engines $(ARGS)

attestation: $(READY) $(ATTESTATION_READY)
	@.venv/bin/python -m pytest -q tests/node/test_card_reports.py $(ARGS)

corpus: $(READY) $(JOBS_READY)
	@.venv/bin/python -m tests.node.guest.corpus_table $(ARGS)

soak: $(READY) $(JOBS_READY)
	@.venv/bin/python -m pytest -q -s -m "soak" tests/soak tests/failures $(ARGS)

CHECKS := "ruff format --check ." "ruff check --output-format concise ." mypy pyright lint-imports \
	"python -m pytest -q tests/test_tidy.py tests/test_docs.py"

check: $(READY)
	@code=0; for step in $(CHECKS); do echo "check: $$step"; .venv/bin/$$step || code=1; done; exit $$code

bench: $(READY) $(JOBS_READY)
	@.venv/bin/python -m benchmarks $(ARGS)

dist: $(READY)
	@packaging/build.sh

format: $(READY)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

picture: $(READY)
	.venv/bin/python docs/draw_architecture.py
