// Many js-libp2p hosts with gossipsub in one process, for benchmarks/bench_gossip.py: node crowd.mjs FIRST COUNT.
// The lines are those of benchmarks/gossip_crowd.py: Doors, Dials, Doors, Plan, Notes.

import readline from 'node:readline'

if (!Promise.withResolvers) { // libp2p 3 expects Node 22
  Promise.withResolvers = () => {
    let resolve, reject
    const promise = new Promise((yes, no) => { resolve = yes; reject = no })
    return { promise, resolve, reject }
  }
}

const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@libp2p/noise')
const { yamux } = await import('@libp2p/yamux')
const { identify } = await import('@libp2p/identify')
const { gossipsub } = await import('@libp2p/gossipsub')
const { multiaddr } = await import('@multiformats/multiaddr')

const TOPIC = '/shoal/bench/offers'
const BYTES = 256
const count = Number(process.argv[3])
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const order = async () => JSON.parse((await lines.next()).value)
const answer = line => process.stdout.write(JSON.stringify(line) + '\n')
const now = () => process.hrtime.bigint()
const cpu = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6 }
const sleep = ms => new Promise(resolve => setTimeout(resolve, Math.max(0, ms)))
const wait = at => sleep(Number(BigInt(at) - now()) / 1e6)

const hosts = []
const heard = []
const said = []
for (let place = 0; place < count; place++) {
  const host = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
    services: {
      identify: identify(),
      gossip: gossipsub({
        D: 6,
        Dlo: 5,
        Dhi: 12,
        heartbeatInterval: 1000,
        emitSelf: true,
        scoreParams: { IPColocationFactorWeight: 0 } // all are on loopback
      })
    }
  })
  host.services.gossip.addEventListener('message', ({ detail: { data } }) => {
    heard.push([Number(Buffer.from(data).readBigUInt64BE(0)), now()])
  })
  host.services.gossip.subscribe(TOPIC)
  hosts.push(host)
}

const plain = pairs => pairs.map(([number, at]) => [number, Number(at)])
answer({ doors: hosts.map(host => [host.peerId.toString(), host.getMultiaddrs()[0].toString().split('/p2p/')[0]]) })
const { dials, degrees } = await order()
for (const [place, peer, address] of dials) await hosts[place].dial(multiaddr(`${address}/p2p/${peer}`))
for (let turn = 0; turn < 400 && hosts.some((host, place) => host.getPeers().length < degrees[place]); turn++) await sleep(50)
answer({ doors: [] })
const { publish, end } = await order()
const used = cpu()
for (const [place, number, at] of publish) {
  wait(at).then(async () => {
    const data = Buffer.alloc(BYTES, number % 251)
    data.writeBigUInt64BE(BigInt(number), 0)
    said.push([number, now()])
    await hosts[place].services.gossip.publish(TOPIC, data)
  })
}
await wait(end)
answer({ said: plain(said), heard: plain(heard), cpu_s: cpu() - used, size: BYTES, statistics: {} })
await lines.next()
process.exit(0)
