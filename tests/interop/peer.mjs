// A js-libp2p peer that a test drives: one JSON object per line on stdin, one reply per line on stdout with the same id.
//
//   {"id": 1, "do": "listen"}                      -> {"id": 1, "peer": "12D3...", "addresses": ["/ip4/127.0.0.1/tcp/..."]}
//   {"id": 2, "do": "nonsense"}                    -> {"id": 2, "error": "..."}
//
// Lines without an id are events: {"event": "ready"}, {"event": "gossip", "topic": ..., "data": hex, "from": ...},
// and those of shoal.mjs.
// Bytes travel as hex. A new command is one more function in `commands`.

import { randomBytes, webcrypto } from 'node:crypto'
import readline from 'node:readline'

import { publicOf } from './bulk.mjs'
import { Puller, sendOn as send } from './pipes.mjs'
import { shoalCommands } from './shoal.mjs'

// libp2p 3 expects Node 22; this is what 18 and 20 lack of it.
Promise.withResolvers ??= () => {
  let resolve, reject
  const promise = new Promise((yes, no) => { resolve = yes; reject = no })
  return { promise, resolve, reject }
}
globalThis.crypto ??= webcrypto
globalThis.CustomEvent ??= class CustomEvent extends Event {
  constructor (type, init) { super(type, init); this.detail = init?.detail ?? null }
}

const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@libp2p/noise')
const { yamux } = await import('@libp2p/yamux')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { gossipsub } = await import('@libp2p/gossipsub')
const { generateKeyPairFromSeed } = await import('@libp2p/crypto/keys')
const { multiaddr } = await import('@multiformats/multiaddr')
const { blake3 } = await import('@noble/hashes/blake3.js')

const ECHO = '/shoal-interop/echo/1' // every byte comes back
const SINK = '/shoal-interop/sink/1' // 8 bytes big endian say how many follow; one JSON answer when they are in
const SOURCE = '/shoal-interop/source/1' // 8 bytes big endian ask for that many
const BLOCK = 65536

const say = line => process.stdout.write(JSON.stringify(line) + '\n')
const hex = bytes => Buffer.from(bytes).toString('hex')
const unhex = text => new Uint8Array(Buffer.from(text, 'hex'))
const flat = chunk => chunk instanceof Uint8Array ? chunk : chunk.subarray()
const cpu = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6 }

const joined = parts => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) { all.set(part, at); at += part.length }
  return all
}
// As gossip names a statement: the first 20 bytes of blake3(topic, a zero byte, data).
const statementId = message => blake3(joined([new TextEncoder().encode(message.topic + '\0'), message.data])).slice(0, 20)

let host = null
let me = null // {seed, key}: 32 bytes each
let options = {}

const count = size => { const bytes = Buffer.alloc(8); bytes.writeBigUInt64BE(BigInt(size)); return bytes }

const fill = async (stream, size, block = BLOCK) => {
  const piece = new Uint8Array(block)
  for (let left = size; left > 0; left -= block) await send(stream, left >= block ? piece : piece.subarray(0, left))
}

const serve = async () => {
  const many = { maxInboundStreams: 2000, maxOutboundStreams: 2000 }
  await host.handle(ECHO, async stream => {
    for await (const chunk of stream) await send(stream, chunk)
    await stream.close()
  }, many)
  await host.handle(SINK, async stream => {
    const pull = new Puller(stream)
    let left = Number((await pull.exactly(8)).readBigUInt64BE()) - pull.rest.length
    const [started, used] = [performance.now(), cpu()]
    while (left > 0) {
      const { value, done } = await pull.chunks.next()
      if (done) return
      left -= value.byteLength
    }
    await send(stream, Buffer.from(JSON.stringify({ seconds: (performance.now() - started) / 1e3, cpu: cpu() - used })))
    await stream.close()
  }, many)
  await host.handle(SOURCE, async stream => {
    const size = Number((await new Puller(stream).exactly(8)).readBigUInt64BE())
    await fill(stream, size)
    await stream.close()
  }, many)
}

const median = times => times.sort((a, b) => a - b)[times.length >> 1]
const high = times => times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)]
const open = (peer, protocol) => host.dialProtocol(multiaddr(peer), protocol, { maxOutboundStreams: 2000 })

const commands = {
  // listen {seed?: hex, address?, gossip?: {sign?: bool, ...options of gossipsub}}: start the host; must come first. address null: dial only.
  async listen (ask) {
    const address = ask.address === undefined ? '/ip4/127.0.0.1/tcp/0' : ask.address
    options = ask.gossip ?? {}
    const { sign = false, ...rest } = options
    const seed = ask.seed === undefined ? randomBytes(32) : Buffer.from(unhex(ask.seed))
    me = { seed, key: publicOf('ed25519', seed) }
    host = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', seed),
      addresses: { listen: address === null ? [] : [address] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false },
      services: {
        identify: identify(),
        ping: ping(),
        gossip: gossipsub({
          globalSignaturePolicy: sign ? 'StrictSign' : 'StrictNoSign',
          allowPublishToZeroTopicPeers: true,
          heartbeatInterval: 500,
          ...(sign ? {} : { msgIdFn: statementId }),
          ...rest
        })
      }
    })
    await serve()
    host.services.gossip.addEventListener('message', ({ detail: { topic, data, from } }) => {
      say({ event: 'gossip', topic, data: hex(data), from: from === undefined ? '' : from.toString() })
    })
    return { peer: host.peerId.toString(), addresses: host.getMultiaddrs().map(String) }
  },

  // dial {peer: multiaddr with /p2p/...}
  async dial ({ peer }) {
    const started = performance.now()
    const connection = await host.dial(multiaddr(peer))
    return { peer: connection.remotePeer.toString(), ms: performance.now() - started, muxer: connection.multiplexer }
  },

  async hangup ({ peer }) { await host.hangUp(multiaddr(peer)); return {} },

  async connections () { return { peers: host.getPeers().map(String) } },

  // ping {peer} -> ms
  async ping ({ peer }) { return { ms: await host.services.ping.ping(multiaddr(peer)) } },

  // identify {peer}: what that peer says of itself, asked now
  async identify ({ peer }) {
    const said = await host.services.identify.identify(await host.dial(multiaddr(peer)))
    return {
      agent: said.agentVersion ?? '',
      protocols: said.protocols,
      addresses: said.listenAddrs.map(String),
      observed: said.observedAddr === undefined ? '' : said.observedAddr.toString()
    }
  },

  // echo {peer, size, protocol?}: send size bytes of a pattern, and compare what comes back
  async echo ({ peer, size, protocol = ECHO }) {
    const stream = await open(peer, protocol)
    const pattern = new Uint8Array(BLOCK).map((_, at) => at % 251)
    const pull = new Puller(stream)
    const write = (async () => {
      for (let left = size; left > 0; left -= BLOCK) await send(stream, pattern.subarray(0, Math.min(left, BLOCK)))
      await stream.close()
    })()
    let same = true
    for (let left = size; left > 0 && same; left -= BLOCK) {
      const got = await pull.exactly(Math.min(left, BLOCK))
      same = got !== null && Buffer.compare(got, Buffer.from(pattern.subarray(0, got.length))) === 0
    }
    await write
    return { same }
  },

  // request {peer, protocol, frames: [hex], answers: n, prefix?: 4}: frames with a big-endian length before each, both ways
  async request ({ peer, protocol, frames, answers, prefix = 4, close = false }) {
    const stream = await open(peer, protocol)
    for (const frame of frames.map(unhex)) {
      const length = Buffer.alloc(prefix)
      length.writeUIntBE(frame.length, 0, prefix)
      await send(stream, joined([length, frame]))
    }
    const pull = new Puller(stream)
    const found = []
    while (found.length < answers) {
      const length = await pull.exactly(prefix)
      const body = length === null ? null : await pull.exactly(length.readUIntBE(0, prefix))
      if (body === null) break
      found.push(hex(body))
    }
    if (close) await stream.close()
    return { frames: found, rest: hex(pull.rest) }
  },

  // exchange {peer, protocol, data: hex}: write all, close our half, read to the end (a blob fetch, for one)
  async exchange ({ peer, protocol, data, limit = 1 << 26 }) {
    const stream = await open(peer, protocol)
    if (data.length > 0) await send(stream, unhex(data))
    await stream.close()
    const parts = []
    let have = 0
    for await (const chunk of stream) {
      parts.push(Buffer.from(flat(chunk)))
      have += chunk.byteLength
      if (have > limit) throw new Error(`more than ${limit} bytes came`)
    }
    return { data: hex(Buffer.concat(parts)) }
  },

  // answer {protocol, frame: hex}: from now on answer each length-prefixed frame of that protocol with this one
  async answer ({ protocol, frame, prefix = 4 }) {
    const length = Buffer.alloc(prefix)
    length.writeUIntBE(frame.length / 2, 0, prefix)
    const reply = joined([length, unhex(frame)])
    await host.handle(protocol, async stream => {
      const pull = new Puller(stream)
      for (;;) {
        const size = await pull.exactly(prefix)
        const body = size === null ? null : await pull.exactly(size.readUIntBE(0, prefix))
        if (body === null) break
        say({ event: 'asked', protocol, frame: hex(body) })
        await send(stream, reply)
      }
    })
    return {}
  },

  // gossip {subscribe?: topic, unsubscribe?: topic, publish?: {topic, data: hex}}: then who is where
  async gossip ({ subscribe, unsubscribe, publish, topic }) {
    const service = host.services.gossip
    if (subscribe !== undefined) service.subscribe(subscribe)
    if (unsubscribe !== undefined) service.unsubscribe(unsubscribe)
    const sent = publish === undefined ? null : await service.publish(publish.topic, unhex(publish.data))
    const of = topic ?? subscribe ?? publish?.topic
    return {
      sent: sent === null ? [] : sent.recipients.map(String),
      subscribers: of === undefined ? [] : service.getSubscribers(of).map(String),
      mesh: of === undefined ? [] : service.getMeshPeers(of)
    }
  },

  // bulk {peer, size, block?}: to the sink of a peer -> MB/s
  async bulk ({ peer, size, block = BLOCK }) {
    const stream = await open(peer, SINK)
    const pull = new Puller(stream)
    await send(stream, count(size))
    const [started, used] = [performance.now(), cpu()]
    await fill(stream, size, block)
    const { value } = await pull.chunks.next()
    const seconds = (performance.now() - started) / 1e3
    return { mb_per_s: size / 1e6 / seconds, cpu_tx: cpu() - used, cpu_rx: JSON.parse(Buffer.from(flat(value)).toString()).cpu }
  },

  // requests {peer, number, size}: round trips over one echo stream, then a stream for each
  async requests ({ peer, number, size = 1024 }) {
    const payload = new Uint8Array(size)
    const [one, each] = [[], []]
    const round = async (stream, pull) => { await send(stream, payload); await pull.exactly(size) }
    const stream = await open(peer, ECHO)
    const pull = new Puller(stream)
    let used = cpu()
    for (let at = 0; at < number; at++) {
      const started = performance.now()
      await round(stream, pull)
      one.push(performance.now() - started)
    }
    const cpuOne = (cpu() - used) / number
    used = cpu()
    for (let at = 0; at < number / 5; at++) {
      const started = performance.now()
      const fresh = await open(peer, ECHO)
      await round(fresh, new Puller(fresh))
      each.push(performance.now() - started)
      await fresh.close()
    }
    return {
      p50_ms: median(one), p99_ms: high(one), cpu_us: cpuOne * 1e6,
      fresh_p50_ms: median(each), fresh_p99_ms: high(each), fresh_cpu_us: (cpu() - used) / (number / 5) * 1e6
    }
  },

  ...shoalCommands({ host: () => host, me: () => me, dial: peer => host.dial(multiaddr(peer)), report: say }),

  async stop () { await host?.stop(); return {} }
}

const handle = async line => {
  let ask = {}
  try {
    ask = JSON.parse(line)
    const command = Object.hasOwn(commands, ask.do) ? commands[ask.do] : null
    if (command === null) throw new Error(`no command ${ask.do}; there are ${Object.keys(commands).join(', ')}`)
    say({ id: ask.id, ...await command(ask) })
  } catch (error) {
    say({ id: ask.id ?? null, error: `${error.name}: ${error.message}` })
  }
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', line => { handle(line) })
lines.on('close', () => process.exit(0))
process.on('unhandledRejection', error => say({ event: 'rejection', error: String(error) }))
say({ event: 'ready' })
