// MessagePack as specs/03-wire.md wants it: one encoding of each value, and everything else refused.
// Integers are numbers, or BigInts where those are not exact; bytes are Buffers; maps are objects in the order of their keys.

class Writer {
  constructor () { this.parts = [] }

  head (first, size, value) { // a byte that says what follows, and a big-endian number of `size` bytes
    const bytes = Buffer.alloc(1 + size)
    bytes[0] = first
    if (size === 8) bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)), 1)
    else if (size > 0) bytes.writeUIntBE(Number(value), 1, size)
    this.parts.push(bytes)
  }

  integer (value) {
    if (value >= 0) {
      if (value < 128) this.head(Number(value), 0)
      else if (value < 256) this.head(0xcc, 1, value)
      else if (value < 65536) this.head(0xcd, 2, value)
      else if (value < 4294967296) this.head(0xce, 4, value)
      else this.head(0xcf, 8, value)
    } else if (value >= -32) this.head(256 + Number(value), 0)
    else if (value >= -128) this.head(0xd0, 1, 256 + Number(value))
    else if (value >= -32768) this.head(0xd1, 2, 65536 + Number(value))
    else if (value >= -2147483648) this.head(0xd2, 4, 4294967296 + Number(value))
    else this.head(0xd3, 8, value)
  }

  sized (count, small, smallMax, first) { // [8-bit, 16-bit, 32-bit] first bytes; 8-bit may be absent
    if (count <= smallMax) this.head(small + count, 0)
    else if (first[0] !== null && count < 256) this.head(first[0], 1, count)
    else if (count < 65536) this.head(first[1], 2, count)
    else this.head(first[2], 4, count)
  }

  value (value) {
    if (value === null) this.head(0xc0, 0)
    else if (value === false || value === true) this.head(value ? 0xc3 : 0xc2, 0)
    else if (typeof value === 'bigint' || Number.isSafeInteger(value)) this.integer(value)
    else if (typeof value === 'string') {
      const bytes = Buffer.from(value)
      this.sized(bytes.length, 0xa0, 31, [0xd9, 0xda, 0xdb])
      this.parts.push(bytes)
    } else if (value instanceof Uint8Array) {
      this.sized(value.length, 0, -1, [0xc4, 0xc5, 0xc6])
      this.parts.push(value)
    } else if (Array.isArray(value)) {
      this.sized(value.length, 0x90, 15, [null, 0xdc, 0xdd])
      for (const item of value) this.value(item)
    } else if (typeof value === 'object') {
      const entries = Object.entries(value).filter(([, item]) => item !== undefined)
      this.sized(entries.length, 0x80, 15, [null, 0xde, 0xdf])
      for (const [key, item] of entries) { this.value(key); this.value(item) }
    } else throw new TypeError(`${typeof value} ${value} has no encoding here`)
  }
}

class Reader {
  constructor (bytes) { this.bytes = Buffer.from(bytes); this.at = 0 }

  take (size) {
    if (this.at + size > this.bytes.length) throw new RangeError('the message ends too early')
    this.at += size
    return this.bytes.subarray(this.at - size, this.at)
  }

  number (size) { return size === 8 ? this.take(8).readBigUInt64BE() : this.take(size).readUIntBE(0, size) }
  negative (size) { return size === 8 ? this.take(8).readBigInt64BE() : this.take(size).readIntBE(0, size) }
  text (size) { return new TextDecoder('utf-8', { fatal: true }).decode(this.take(size)) }
  list (count, depth) { return Array.from({ length: count }, () => this.value(depth)) }

  map (count, depth) {
    const found = {}
    for (let place = 0; place < count; place++) {
      const key = this.value(depth)
      if (typeof key !== 'string' || Object.hasOwn(found, key)) throw new RangeError('a key that is no name, or comes twice')
      found[key] = this.value(depth)
    }
    return found
  }

  value (depth = 0) {
    if (depth > 32) throw new RangeError('the message is too deep')
    const first = this.take(1)[0]
    const exact = value => typeof value === 'bigint' && BigInt(Number(value)) === value && Number.isSafeInteger(Number(value)) ? Number(value) : value
    if (first < 0x80) return first
    if (first < 0x90) return this.map(first & 15, depth + 1)
    if (first < 0xa0) return this.list(first & 15, depth + 1)
    if (first < 0xc0) return this.text(first & 31)
    if (first >= 0xe0) return first - 256
    switch (first) {
      case 0xc0: return null
      case 0xc2: return false
      case 0xc3: return true
      case 0xc4: case 0xc5: case 0xc6: return Buffer.from(this.take(this.number(1 << (first - 0xc4))))
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return exact(this.number(1 << (first - 0xcc)))
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return exact(this.negative(1 << (first - 0xd0)))
      case 0xd9: case 0xda: case 0xdb: return this.text(this.number(1 << (first - 0xd9)))
      case 0xdc: case 0xdd: return this.list(this.number(2 << (first - 0xdc)), depth + 1)
      case 0xde: case 0xdf: return this.map(this.number(2 << (first - 0xde)), depth + 1)
      default: throw new RangeError(`no value begins with ${first}`)
    }
  }
}

export const pack = value => {
  const writer = new Writer()
  writer.value(value)
  return Buffer.concat(writer.parts)
}

// The value in all of these bytes; throws when they are not its one encoding.
export const unpack = bytes => {
  const reader = new Reader(bytes)
  const value = reader.value()
  if (Buffer.compare(pack(value), Buffer.from(bytes)) !== 0) throw new RangeError('this is not the canonical encoding')
  return value
}
