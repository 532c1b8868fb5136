// The vectors that Shoal publishes, computed again: tests/vectors/bulk.json and tests/vectors/messages.json.

import { EventEmitter, once } from 'node:events'
import { readFileSync } from 'node:fs'

import { chunkCount, chunkList, commitment, hash, meetFetcher, meetHolder, Opener, publicOf, Sealer, ticketId } from './bulk.mjs'
import { schemaOf } from './fields.mjs'
import { pack, unpack } from './packing.mjs'

const hex = bytes => Buffer.from(bytes).toString('hex')
const unhex = text => Buffer.from(text, 'hex')
const person = seed => ({ seed: unhex(seed), key: publicOf('ed25519', unhex(seed)) })

// Two ends of a conversation within this process, whose frames are kept.
const ends = () => {
  const [frames, read] = [[[], []], [0, 0]]
  const news = new EventEmitter()
  const end = (mine, other) => ({
    async sendFrame (body) { frames[mine].push(hex(body)); news.emit('frame') },
    async readFrame () {
      while (frames[other].length === read[mine]) await once(news, 'frame')
      return unhex(frames[other][read[mine]++])
    }
  })
  return { fetcher: end(0, 1), holder: end(1, 0), frames }
}

// Checks: name -> [found, published].
const differing = checks => Object.entries(checks).filter(([, [found, wanted]]) => found !== wanted).map(([name]) => name)

const handshakeChecks = async vector => {
  const [fetcher, holder, secret] = [person(vector.fetcher_seed), person(vector.holder_seed), unhex(vector.ticket_secret)]
  const { fetcher: here, holder: there, frames } = ends()
  const tickets = new Map([[hex(ticketId(secret)), { secret, peer: fetcher.key, digests: [] }]])
  const answering = meetFetcher(there, vector.network, holder, tickets, unhex(vector.holder_ephemeral))
  const met = await meetHolder(here, vector.network, fetcher, holder.key, secret, undefined, unhex(vector.fetcher_ephemeral))
  const other = await answering
  return {
    open: [frames[0][0], vector.open],
    accept: [frames[1][0], vector.accept],
    finish: [frames[0][1], vector.finish],
    cipher: [met.cipher, vector.cipher],
    'key to holder': [hex(met.out.key), vector.key_to_holder],
    'key to fetcher': [hex(met.in.key), vector.key_to_fetcher],
    'both have them': [hex(other.in.key) + hex(other.out.key), hex(met.out.key) + hex(met.in.key)]
  }
}

const recordChecks = records => {
  const checks = {}
  let [sealer, opener] = [null, null]
  records.forEach((record, place) => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, at) => at))
    sealer ??= new Sealer(record.cipher, key, record.rekey_bytes)
    opener ??= new Opener(record.cipher, key, record.rekey_bytes)
    const bytes = unhex(record.record)
    checks[`record ${place} sealed`] = [hex(sealer.seal(record.kind, unhex(record.body), record.is_last)), record.record]
    checks[`record ${place} opened`] = [hex(opener.open(bytes.subarray(0, 8), bytes.subarray(8)).body), record.body]
    if (record.is_last) [sealer, opener] = [null, null]
  })
  return checks
}

const messageChecks = found => {
  const digest = Buffer.alloc(32, 'd')
  const ours = { // as the document lists their fields
    TicketRequest: { type: 'ticket_request', digests: [digest] },
    TicketReply: { type: 'ticket_reply', sizes: [5, -1], secret: Buffer.alloc(32, 1), addresses: ['/ip4/192.0.2.1/tcp/4002'] },
    Describe: { type: 'describe', digest },
    Description: { type: 'description', total: 5, commitment: digest },
    WantList: { type: 'want_list', digest },
    Want: { type: 'want', digest, index: 7 },
    Wait: { type: 'wait' },
    Sorry: { type: 'sorry', reason: 'gone' },
    Bye: { type: 'bye' }
  }
  const names = [...new Set([...Object.keys(found), ...Object.keys(ours)])]
  return Object.fromEntries(names.map(name => [name, [ours[name] === undefined ? 'unknown' : hex(pack(ours[name])), found[name]]]))
}

export const bulkFailures = async file => {
  const vectors = JSON.parse(readFileSync(file, 'utf8'))
  const zeros = chunkList(Buffer.alloc(vectors.list.total))
  return differing({
    'ticket id': [hex(ticketId(unhex(vectors.ticket.secret))), vectors.ticket.id],
    ...await handshakeChecks(vectors.handshake),
    ...recordChecks(vectors.records),
    ...messageChecks(vectors.messages),
    list: [hex(zeros), vectors.list.chunks],
    'list length': [zeros.length, 32 * chunkCount(vectors.list.total)],
    commitment: [hex(commitment(vectors.list.total, zeros)), vectors.list.commitment],
    'a chunk': [hex(hash(Buffer.alloc(1024 * 1024))), vectors.list.chunks.slice(0, 64)]
  })
}

// Bytes as hexadecimal text; what is left compares as JSON, the order of the fields included.
export const plain = value => {
  if (value instanceof Uint8Array) return hex(value)
  if (typeof value === 'bigint') return value.toString()
  if (Array.isArray(value)) return value.map(plain)
  if (value !== null && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]))
  return value
}

// Read with no knowledge but the document's tables of fields: value -> bytes, and bytes -> value.
export const messageFailures = (file, document) => {
  const schema = schemaOf(document)
  return JSON.parse(readFileSync(file, 'utf8')).filter(({ name, value, bytes }) => {
    const found = unpack(unhex(bytes)) // throws when it is not canonical here
    const ours = schema.read(value.type === undefined ? name : `\`${value.type}\``, value)
    return JSON.stringify(plain(found)) !== JSON.stringify(value) || hex(pack(ours)) !== bytes
  }).map(({ name }) => name)
}
