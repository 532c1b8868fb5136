// specs/19-bulk.md in JavaScript: tickets, the handshake of both sides, records, chunks. Written from the document.

import {
  createCipheriv, createDecipheriv, createHmac, createPrivateKey, createPublicKey, diffieHellman, hkdfSync, randomBytes,
  sign, timingSafeEqual, verify
} from 'node:crypto'

import { blake3 } from '@noble/hashes/blake3.js'

import { pack, unpack } from './packing.mjs'

const LABEL = Buffer.from('shoal bulk 1')
const MIB = 1024 * 1024
const [HEADER_BYTES, TAG_BYTES, RECORD_BYTES_MAX, CONTROL_BYTES_MAX, HANDSHAKE_BYTES_MAX] = [8, 16, MIB, 4096, 512]
const [REKEY_BYTES, REKEY_RECORDS, CHUNKS_MAX, DEPTH] = [64 * 1024 ** 3, 2 ** 32, 262_144, 4]
export const [CONTROL, DATA] = [1, 2]
export const CIPHERS = ['aes-128-gcm', 'chacha20-poly1305']

const DER = { // what stands before the 32 bytes of a raw key
  ed25519: ['302e020100300506032b657004220420', '302a300506032b6570032100'],
  x25519: ['302e020100300506032b656e04220420', '302a300506032b656e032100']
}
const der = (prefix, raw) => Buffer.concat([Buffer.from(prefix, 'hex'), raw])
export const privateKey = (kind, raw) => createPrivateKey({ key: der(DER[kind][0], raw), format: 'der', type: 'pkcs8' })
export const publicKey = (kind, raw) => createPublicKey({ key: der(DER[kind][1], raw), format: 'der', type: 'spki' })
export const publicOf = (kind, raw) => createPublicKey(privateKey(kind, raw)).export({ format: 'der', type: 'spki' }).subarray(-32)

export const hash = (data, options = {}) => Buffer.from(blake3(data, options))
const context = text => ({ context: Buffer.from(text) })
const isSame = (a, b) => a.length === b.length && timingSafeEqual(a, b)

// specs/03-wire.md: what is signed is never bare.
export const signingBytes = (network, kind, body) => Buffer.concat([Buffer.from(`shoal/1\0${network}\0${kind}\0`), body])
export const signed = (seed, network, kind, body) => sign(null, signingBytes(network, kind, body), privateKey('ed25519', seed))
export const isSignedBy = (key, network, kind, body, signature) =>
  signature.length === 64 && verify(null, signingBytes(network, kind, body), publicKey('ed25519', key), signature)

// A message with exactly these fields, in this order.
export const expect = (message, type, fields) => {
  const names = Object.keys(message).join(' ')
  if (message.type !== type || names !== ['type', ...fields].join(' ')) throw new Error(`malformed: ${names} is no ${type}`)
  return message
}

export const ticketId = secret => hash(secret, { ...context('shoal bulk 1 ticket id'), dkLen: 16 })

export const transcript = (network, fetcher, holder, opening, ephemeral, cipher) => {
  const parts = []
  for (const field of [LABEL, Buffer.from(network), fetcher, holder, opening, ephemeral, Buffer.from(cipher)]) {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(field.length)
    parts.push(length, field)
  }
  return hash(Buffer.concat(parts))
}
export const sealed = (said, signature, proof) => hash(Buffer.concat([said, signature, proof]))
export const proofOf = (key, said) => hash(said, { key })

// [to the holder, to the fetcher, the holder's proof, the fetcher's proof]
export const keysOf = (own, other, secret, said) => {
  const shared = diffieHellman({ privateKey: privateKey('x25519', own), publicKey: publicKey('x25519', other) })
  if (shared.every(byte => byte === 0)) throw new Error('bad_handshake: a key of low order')
  const bytes = Buffer.from(hkdfSync('sha256', Buffer.concat([shared, secret]), said, LABEL, 128))
  return [0, 32, 64, 96].map(start => bytes.subarray(start, start + 32))
}

export const choose = (offered, hasAes) => {
  if (offered[0] === CIPHERS[0] && (hasAes || !offered.includes(CIPHERS[1]))) return CIPHERS[0]
  return offered.includes(CIPHERS[1]) ? CIPHERS[1] : offered[0]
}

// me: {seed, key}. Gives {out, in, cipher}: the two directions. `ephemeral` only where a test needs it again.
export const meetHolder = async (pipe, network, me, holder, secret, offered = CIPHERS, ephemeral = randomBytes(32)) => {
  const opening = pack({ type: 'open', ticket: ticketId(secret), ephemeral: publicOf('x25519', ephemeral), ciphers: offered })
  await pipe.sendFrame(opening)
  const answer = expect(unpack(await pipe.readFrame(HANDSHAKE_BYTES_MAX)), 'accept', ['ephemeral', 'cipher', 'signature', 'proof'])
  if (!offered.includes(answer.cipher)) throw new Error('bad_handshake: a cipher that was not offered')
  const said = transcript(network, me.key, holder, opening, answer.ephemeral, answer.cipher)
  const keys = keysOf(ephemeral, answer.ephemeral, secret, said)
  if (!isSignedBy(holder, network, 'bulk-accept', said, answer.signature)) throw new Error('bad_handshake: not the holder')
  if (!isSame(proofOf(keys[2], said), answer.proof)) throw new Error('bad_handshake: not the same keys')
  const whole = sealed(said, answer.signature, answer.proof)
  const finish = pack({ type: 'finish', signature: signed(me.seed, network, 'bulk-finish', whole), proof: proofOf(keys[3], whole) })
  await pipe.sendFrame(finish)
  return { out: new Sealer(answer.cipher, keys[0]), in: new Opener(answer.cipher, keys[1]), cipher: answer.cipher, opening, finish }
}

// tickets: Map of id in hexadecimal -> {secret, peer, digests}; the ticket is used up by Finish.
export const meetFetcher = async (pipe, network, me, tickets, ephemeral = randomBytes(32)) => {
  const opening = await pipe.readFrame(HANDSHAKE_BYTES_MAX)
  const open = expect(unpack(opening), 'open', ['ticket', 'ephemeral', 'ciphers'])
  const ticket = tickets.get(open.ticket.toString('hex'))
  if (ticket === undefined) throw new Error('no_ticket: it is used up or unknown')
  const own = publicOf('x25519', ephemeral)
  const cipher = choose(open.ciphers, true)
  const said = transcript(network, ticket.peer, me.key, opening, own, cipher)
  const keys = keysOf(ephemeral, open.ephemeral, ticket.secret, said)
  const [signature, proof] = [signed(me.seed, network, 'bulk-accept', said), proofOf(keys[2], said)]
  const accept = pack({ type: 'accept', ephemeral: own, cipher, signature, proof })
  await pipe.sendFrame(accept)
  const finish = expect(unpack(await pipe.readFrame(HANDSHAKE_BYTES_MAX)), 'finish', ['signature', 'proof'])
  const whole = sealed(said, signature, proof)
  if (!isSignedBy(ticket.peer, network, 'bulk-finish', whole, finish.signature)) throw new Error('bad_handshake: not the fetcher')
  if (!isSame(proofOf(keys[3], whole), finish.proof)) throw new Error('bad_handshake: not the same keys')
  if (!tickets.delete(open.ticket.toString('hex'))) throw new Error('no_ticket: somebody was faster')
  return { out: new Sealer(cipher, keys[1]), in: new Opener(cipher, keys[0]), cipher, ticket, accept }
}

class Direction {
  constructor (cipher, key, rekeyBytes = REKEY_BYTES) {
    [this.cipher, this.rekeyBytes, this.isOver] = [cipher, rekeyBytes, false]
    this.turn(key)
  }

  turn (key) { [this.key, this.records, this.bytes] = [key, 0, 0] }

  nonce (size) {
    if (this.bytes + size > this.rekeyBytes || this.records >= REKEY_RECORDS) {
      this.turn(createHmac('sha256', this.key).update('shoal bulk 1 rekey\x01').digest())
    }
    const nonce = Buffer.alloc(12)
    nonce.writeUIntBE(this.records++, 6, 6)
    this.bytes += size
    return nonce
  }

  get cipherKey () { return this.cipher === CIPHERS[0] ? this.key.subarray(0, 16) : this.key }
}

export class Sealer extends Direction {
  seal (kind, body, isLast = false) {
    const header = Buffer.from([kind, isLast ? 1 : 0, 0, 0, 0, 0, 0, 0])
    header.writeUInt32BE(body.length, 4)
    const nonce = this.nonce(body.length) // first, for it may replace the key
    const aead = createCipheriv(this.cipher, this.cipherKey, nonce, { authTagLength: TAG_BYTES })
    aead.setAAD(header, { plaintextLength: body.length })
    return Buffer.concat([header, aead.update(body), aead.final(), aead.getAuthTag()])
  }
}

export class Opener extends Direction {
  announced (header) {
    const [kind, flags, size] = [header[0], header[1], header.readUInt32BE(4)]
    const most = kind === DATA ? RECORD_BYTES_MAX : CONTROL_BYTES_MAX
    const isSound = (kind === CONTROL || kind === DATA) && flags <= 1 && header[2] === 0 && header[3] === 0 && size <= most
    if (this.isOver || !isSound) throw new Error('broken_record: the header makes no sense')
    return { kind, size, isLast: flags === 1 }
  }

  open (header, sealedBody) {
    const { kind, size, isLast } = this.announced(header)
    const nonce = this.nonce(size)
    const aead = createDecipheriv(this.cipher, this.cipherKey, nonce, { authTagLength: TAG_BYTES })
    aead.setAAD(header, { plaintextLength: size })
    aead.setAuthTag(sealedBody.subarray(size))
    const body = Buffer.concat([aead.update(sealedBody.subarray(0, size)), aead.final()]) // throws when it was changed
    this.isOver = isLast
    return { kind, body, isLast }
  }
}

// Records over a pipe, once two peers have met.
export class Link {
  constructor (pipe, met) { [this.pipe, this.met] = [pipe, met] }

  async say (message, isLast = false) { await this.pipe.send(this.met.out.seal(CONTROL, pack(message), isLast)) }

  async sendData (bytes) {
    for (let at = 0; at < bytes.length; at += this.pipe.recordBytes) {
      await this.pipe.send(this.met.out.seal(DATA, bytes.subarray(at, at + this.pipe.recordBytes)))
    }
  }

  async record () {
    const header = await this.pipe.read(HEADER_BYTES)
    const { size } = this.met.in.announced(header)
    return this.met.in.open(header, await this.pipe.read(size + TAG_BYTES))
  }

  async hear () {
    const { kind, body, isLast } = await this.record()
    if (kind !== CONTROL) throw new Error('bulk_order: data instead of a message')
    return { ...unpack(body), isLast }
  }

  async data (size) {
    const parts = []
    for (let left = size; left > 0;) {
      const { kind, body } = await this.record()
      if (kind === CONTROL && left === size) throw new Error(`no_blob: ${JSON.stringify(unpack(body))}`)
      if (kind !== DATA || body.length === 0 || body.length > left) throw new Error('bulk_order: a record that does not fit')
      parts.push(body)
      left -= body.length
    }
    return Buffer.concat(parts)
  }
}

export const chunkBytes = total => total < 256 * MIB ? MIB : 4 * MIB
export const chunkCount = total => Math.max(1, Math.ceil(total / chunkBytes(total)))
export const chunkSize = (total, index) => Math.min(chunkBytes(total), total - index * chunkBytes(total))
export const commitment = (total, flat) => {
  const size = Buffer.alloc(8)
  size.writeBigUInt64BE(BigInt(total))
  return hash(Buffer.concat([size, flat]), context('shoal bulk 1 chunk list'))
}
export const chunkList = blob => Buffer.concat(Array.from({ length: chunkCount(blob.length) }, (_, index) => {
  const start = index * chunkBytes(blob.length)
  return hash(blob.subarray(start, start + chunkSize(blob.length, index)))
}))

// The bytes of a blob and their digest, every chunk and the whole checked; then Bye in both directions.
export const fetchBlob = async (link, digest) => {
  await link.say({ type: 'describe', digest })
  let said = await link.hear()
  while (said.type === 'wait') said = await link.hear()
  if (said.type !== 'description') throw new Error(`bulk_order: ${said.type} instead of a description`)
  const { total } = said
  if (total < 0) throw new Error('no_blob: it is not here')
  const count = chunkCount(total)
  if (count > CHUNKS_MAX) throw new Error('blob_too_large')
  let flat = digest
  if (count > 1) {
    await link.say({ type: 'want_list', digest })
    flat = await link.data(32 * count)
  }
  if (!isSame(commitment(total, flat), said.commitment)) throw new Error('wrong_list: not what was stated')
  const [chunks, whole] = [[], blake3.create()]
  let asked = 0
  for (let index = 0; index < count; index++) {
    for (; asked < count && asked < index + DEPTH; asked++) {
      if (chunkSize(total, asked) > 0) await link.say({ type: 'want', digest, index: asked })
    }
    const chunk = await link.data(chunkSize(total, index))
    if (!isSame(hash(chunk), flat.subarray(index * 32, index * 32 + 32))) throw new Error(`wrong_bytes: chunk ${index}`)
    whole.update(chunk)
    chunks.push(chunk)
  }
  const found = Buffer.from(whole.digest())
  if (!isSame(found, digest)) throw new Error('wrong_list: the whole is another blob')
  await link.say({ type: 'bye' }, true)
  const end = await link.hear()
  if (end.type !== 'bye' || !end.isLast) throw new Error(`bulk_order: ${end.type} instead of bye`)
  return { data: Buffer.concat(chunks), digest: found }
}

// Answer one link to its end. blobs: digest in hexadecimal -> {data, list}; allowed: the ticket's digests in hexadecimal.
export const serveBlobs = async (link, blobs, allowed) => {
  for (;;) {
    const { isLast, ...ask } = await link.hear()
    if (ask.type === 'bye') {
      if (!isLast) throw new Error('bulk_order: bye, and it goes on')
      return link.say({ type: 'bye' }, true)
    }
    const name = ask.digest.toString('hex')
    if (!allowed.has(name)) throw new Error('no_ticket: the ticket does not name it')
    const blob = blobs.get(name)
    if (ask.type === 'describe') {
      const none = { type: 'description', total: -1, commitment: Buffer.alloc(32) }
      await link.say(blob === undefined ? none : { ...none, total: blob.data.length, commitment: commitment(blob.data.length, blob.list) })
    } else if (blob === undefined) await link.say({ type: 'sorry', reason: 'it is not here' })
    else if (ask.type === 'want_list') await link.sendData(blob.list)
    else {
      expect(ask, 'want', ['digest', 'index'])
      const start = ask.index * chunkBytes(blob.data.length)
      if (ask.index >= chunkCount(blob.data.length)) throw new Error('bulk_order: there is no such chunk')
      await link.sendData(blob.data.subarray(start, start + chunkSize(blob.data.length, ask.index)))
    }
  }
}
