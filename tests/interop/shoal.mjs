// A peer of Shoal in JavaScript, as commands of peer.mjs: sessions, questions, blobs both ways, statements.
// Written from specs/03-wire.md, 12-transport.md, 19-bulk.md and 22-gossip.md.

import { randomBytes } from 'node:crypto'
import net from 'node:net'

import { chunkList, expect, fetchBlob, hash, isSignedBy, Link, meetFetcher, meetHolder, serveBlobs, signed, ticketId } from './bulk.mjs'
import { pack, unpack } from './packing.mjs'
import { SocketPipe, StreamPipe } from './pipes.mjs'
import { bulkFailures, messageFailures, plain } from './vectors.mjs'

const [VERSION, MESSAGE_BYTES_MAX, MEETING_MS] = [5, 65_536, 5_000]
const HELLO = ['network', 'version', 'software', 'roles', 'capabilities', 'observed', 'session', 'first']
const hex = bytes => Buffer.from(bytes).toString('hex')
const unhex = text => Buffer.from(text, 'hex')
const rawKey = peer => Buffer.from(peer.publicKey.raw)

// What JSON cannot hold: texts that begin with 0x are bytes.
const revived = value => {
  if (typeof value === 'string' && value.startsWith('0x')) return unhex(value.slice(2))
  if (Array.isArray(value)) return value.map(revived)
  if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revived(item)]))
  return value
}

// One session with each peer: what we say is numbered from 1, what we hear is acknowledged.
class Sessions {
  constructor (host, network, report) {
    [this.host, this.network, this.report] = [host, network, report]
    this.protocol = `/shoal/${network}/${VERSION}`
    this.out = new Map() // peer -> promise of {connection, pipe, session, sent}
    this.isSilent = false // hears, and does not say so
    this.heard = new Map() // peer -> {session, count}
  }

  async open () { await this.host.handle(this.protocol, (stream, connection) => this.listen(stream, connection), { maxInboundStreams: 64 }) }

  async to (connection) { // our stream to a peer, greeted
    const peer = connection.remotePeer.toString()
    if (!this.out.has(peer)) this.out.set(peer, this.greet(connection))
    const out = await this.out.get(peer)
    if (out.connection.status === 'open') return out
    this.out.set(peer, this.greet(connection, out.session, out.sent + 1)) // what was said before was heard, in these tests
    return this.out.get(peer)
  }

  async greet (connection, session = randomBytes(16), first = 1) {
    const pipe = new StreamPipe(await connection.newStream(this.protocol))
    const observed = connection.remoteAddr.toString().split('/p2p/')[0]
    await pipe.sendFrame(pack({
      type: 'hello', network: this.network, version: VERSION, software: 'shoal-js', roles: [], capabilities: [], observed, session, first
    }))
    return { connection, pipe, session, sent: first - 1 }
  }

  async resume (connection, first) { // another stream goes on with the session, from a number on
    const { session, pipe } = await this.to(connection)
    this.out.set(connection.remotePeer.toString(), this.greet(connection, session, first))
    await this.to(connection)
    await pipe.close()
  }

  async say (connection, message) {
    const out = await this.to(connection)
    await out.pipe.sendFrame(pack(message))
    out.sent += 1
    return out.sent
  }

  async listen (stream, connection) {
    const peer = connection.remotePeer.toString()
    const pipe = new StreamPipe(stream)
    const next = async () => { // like readFrame, and as patient as a session is
      const length = await pipe.puller.exactly(4)
      if (length === null) return null
      if (length.readUInt32BE() > MESSAGE_BYTES_MAX) throw new Error('over_limit')
      const body = await pipe.puller.exactly(length.readUInt32BE())
      return body === null ? null : unpack(body)
    }
    const hello = expect(await next(), 'hello', HELLO)
    if (hello.network !== this.network || hello.version !== VERSION) throw new Error('another network')
    const known = this.heard.get(peer)
    const goesOn = known !== undefined && known.session.equals(hello.session)
    const heard = { session: hello.session, count: goesOn ? Math.max(known.count, hello.first - 1) : hello.first - 1 }
    this.heard.set(peer, heard)
    this.report({ event: 'hello', peer, hello: plain(hello) })
    await this.to(connection)
    let number = hello.first
    for (let message = await next(); message !== null; message = await next()) {
      if (message.type === 'ack') this.report({ event: 'ack', peer, count: message.count, session: hex(message.session) })
      else if (message.type === 'skip') number = message.number
      else if (message.type === 'goodbye') this.report({ event: 'goodbye', peer, reason: message.reason })
      else {
        if (number > heard.count) {
          heard.count = number
          this.report({ event: 'message', peer, number, message: plain(message) })
        }
        number += 1
        if (this.isSilent) continue
        const { pipe: back } = await this.to(connection)
        await back.sendFrame(pack({ type: 'ack', session: heard.session, count: heard.count }))
      }
    }
  }
}

const ask = async (connection, network, name, question) => {
  const stream = await connection.newStream(`/shoal/${network}/${name}/1`)
  const pipe = new StreamPipe(stream)
  await pipe.sendFrame(pack(question))
  const answer = await pipe.readFrame(MESSAGE_BYTES_MAX + 1)
  await pipe.close()
  const said = unpack(answer.subarray(1))
  if (answer[0] === 1) throw new Error(`${said.code}: ${said.detail}`)
  if (answer[0] !== 0) throw new Error('malformed: an answer begins with 0 or 1')
  return said
}

const connectTo = async address => {
  const [, , host, , port] = address.split('/')
  const socket = net.connect({ host, port: Number(port) })
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  return new SocketPipe(socket)
}

// What we hold, and the port and streams where it can be had. `lie` says how this holder is not honest.
class Holder {
  constructor (network, me, report, lie) {
    [this.network, this.me, this.report, this.lie] = [network, me, report, lie]
    this.blobs = new Map()
    this.tickets = new Map()
  }

  async open (host, way) {
    await host.handle(`/shoal/${this.network}/ticket/1`, async (stream, connection) => {
      const pipe = new StreamPipe(stream)
      const { digests } = expect(unpack(await pipe.readFrame(MESSAGE_BYTES_MAX)), 'ticket_request', ['digests'])
      await pipe.sendFrame(Buffer.concat([Buffer.from([0]), pack(this.ticket(digests, rawKey(connection.remotePeer)))]))
      await pipe.close()
    })
    await host.handle(`/shoal/${this.network}/bulk/1`, stream => this.serve(new StreamPipe(stream)))
    if (way === 'direct') {
      this.server = net.createServer(socket => this.serve(new SocketPipe(socket)))
      await new Promise(resolve => this.server.listen(0, '127.0.0.1', resolve))
    }
  }

  ticket (digests, peer) {
    const sizes = digests.map(digest => this.blobs.get(hex(digest))?.data.length ?? -1)
    if (Math.max(...sizes) < 0) return { type: 'ticket_reply', sizes, secret: Buffer.alloc(32), addresses: [] }
    const secret = randomBytes(32)
    this.tickets.set(hex(ticketId(secret)), { secret, peer, digests })
    const addresses = this.server === undefined ? [] : [`/ip4/127.0.0.1/tcp/${this.server.address().port}`]
    return { type: 'ticket_reply', sizes, secret, addresses }
  }

  async serve (pipe) {
    const late = setTimeout(() => pipe.abort(), MEETING_MS)
    try {
      // The name is the right one, or nobody would come; only the signature is another's.
      const me = this.lie === 'identity' ? { key: this.me.key, seed: randomBytes(32) } : this.me
      const met = await meetFetcher(pipe, this.network, me, this.tickets)
      clearTimeout(late)
      await serveBlobs(new Link(pipe, met), this.blobs, new Set(met.ticket.digests.map(hex)))
      this.report({ event: 'served', way: pipe.way, cipher: met.cipher })
      await pipe.close()
    } catch (error) {
      this.report({ event: 'unserved', way: pipe.way, error: error.message })
      pipe.abort()
    } finally {
      clearTimeout(late)
    }
  }

  add (data) {
    const digest = hex(hash(data))
    const truth = chunkList(data)
    if (this.lie === 'chunk' || this.lie === 'list') data = Buffer.concat([data.subarray(0, -1), Buffer.from([data.at(-1) ^ 255])])
    const list = this.lie === 'list' ? chunkList(data) : truth // with `chunk`, the list is the blob's and the bytes are not
    this.blobs.set(digest, { data, list })
    return digest
  }
}

// host(), me(), dial(multiaddr text) -> connection, report(event)
export const shoalCommands = ({ host, me, dial, report }) => {
  let sessions = null

  return {
    // join {network, peer?, silent?}: speak the direct protocol; with a peer, greet it; silent: acknowledge nothing
    async join ({ network, peer, silent = false }) {
      if (sessions === null) {
        sessions = new Sessions(host(), network, report)
        await sessions.open()
      }
      sessions.isSilent = silent
      if (peer !== undefined) await sessions.to(await dial(peer))
      return { key: hex(me().key) }
    },

    // tell {peer, message}: the next message of our session with it
    async tell ({ peer, message }) { return { number: await sessions.say(await dial(peer), revived(message)) } },

    // resume {peer, first}: a new stream in place of ours, and the next message has this number
    async resume ({ peer, first }) { await sessions.resume(await dial(peer), first); return {} },

    // blob {peer, network, digest, way, ciphers?, thief?: seed, again?: bool}: a ticket, then the blob over the data port or a stream
    async blob ({ peer, network, digest, way, ciphers, thief, again = false }) {
      const connection = await dial(peer)
      const ticket = expect(
        await ask(connection, network, 'ticket', { type: 'ticket_request', digests: [unhex(digest)] }),
        'ticket_reply', ['sizes', 'secret', 'addresses'])
      if (ticket.sizes[0] < 0) throw new Error('no_blob: it is not here')
      const reach = async () => way === 'direct'
        ? connectTo(ticket.addresses[0])
        : new StreamPipe(await connection.newStream(`/shoal/${network}/bulk/1`))
      const pipe = await reach()
      const own = thief === undefined ? me() : { seed: unhex(thief), key: me().key } // who has the ticket, but not the key
      const started = performance.now()
      const met = await meetHolder(pipe, network, own, rawKey(connection.remotePeer), ticket.secret, ciphers)
      const { data, digest: found } = await fetchBlob(new Link(pipe, met), unhex(digest))
      await pipe.close()
      const seconds = (performance.now() - started) / 1e3
      if (data.length !== ticket.sizes[0]) throw new Error('bad_ticket: another size was promised')
      if (again) { // the same words once more: whoever heard them cannot use them
        const other = await reach()
        await other.sendFrame(met.opening)
        await other.readFrame(512)
      }
      return { size: data.length, digest: hex(found), cipher: met.cipher, seconds }
    },

    // hold {network, sizes, way, lie?}: random blobs for others to fetch -> their digests
    async hold ({ network, sizes, way, lie }) {
      const holder = new Holder(network, me(), report, lie)
      await holder.open(host(), way)
      return { digests: sizes.map(size => holder.add(randomBytes(size))) }
    },

    // sign {network, kind, body, spoil?}: a statement as gossip carries it, its body made here from plain values
    async sign ({ network, kind, body, spoil = false }) {
      const bytes = pack(revived(body))
      const signature = signed(me().seed, network, kind, bytes)
      if (spoil) signature[0] ^= 1
      return { data: hex(pack({ type: 'signed', signer: me().key, body: bytes, signature })) }
    },

    // verify {network, kind, data}: whose words these are, and which
    async verify ({ network, kind, data }) {
      const said = expect(unpack(unhex(data)), 'signed', ['signer', 'body', 'signature'])
      const isSound = isSignedBy(said.signer, network, kind, said.body, said.signature)
      return { sound: isSound, signer: hex(said.signer), body: plain(unpack(said.body)) }
    },

    // vectors {folder, document}: what of the published vectors does not come out here; the fields are those of a document
    async vectors ({ folder, document }) {
      return { bulk: await bulkFailures(`${folder}/bulk.json`), messages: messageFailures(`${folder}/messages.json`, document) }
    }
  }
}
