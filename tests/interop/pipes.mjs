// Ordered bytes, both ways: a libp2p stream or a TCP socket, read in exact sizes.

const flat = chunk => chunk instanceof Uint8Array ? chunk : chunk.subarray()

// Anything that yields chunks, as something to pull exact sizes from.
export class Puller {
  constructor (source) { this.chunks = source[Symbol.asyncIterator](); this.rest = Buffer.alloc(0) }

  async exactly (size) { // null when the source ends first
    const parts = [this.rest]
    let have = this.rest.length
    while (have < size) {
      const { value, done } = await this.chunks.next()
      if (done) return null
      parts.push(Buffer.from(flat(value)))
      have += value.byteLength
    }
    const all = parts.length === 1 ? this.rest : Buffer.concat(parts)
    this.rest = all.subarray(size)
    return all.subarray(0, size)
  }
}

export const sendOn = async (stream, bytes) => { if (!stream.send(bytes)) await stream.onDrain() }

const PATIENCE_MS = 10_000 // STALL_S of specs/19-bulk.md
const LENGTH_BYTES = 4

class Pipe {
  constructor (source, record) { this.puller = new Puller(source); this.recordBytes = record }

  async read (size) {
    let timer
    const late = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error('stalled: nothing came for 10 s')), PATIENCE_MS)
    })
    const coming = this.puller.exactly(size).catch(error => { throw new Error(`interrupted: ${error.message}`) })
    const bytes = await Promise.race([coming, late]).finally(() => clearTimeout(timer))
    if (bytes === null) throw new Error('interrupted: the other side ended the connection')
    return bytes
  }

  async readFrame (most) {
    const size = (await this.read(LENGTH_BYTES)).readUInt32BE()
    if (size > most) throw new Error(`over_limit: a frame of ${size} bytes, at most ${most} are allowed`)
    return this.read(size)
  }

  async sendFrame (body) {
    const length = Buffer.alloc(LENGTH_BYTES)
    length.writeUInt32BE(body.length)
    await this.send(Buffer.concat([length, body]))
  }
}

export class StreamPipe extends Pipe {
  constructor (stream) { super(stream, 64 * 1024); this.stream = stream; this.way = 'stream' }
  async send (bytes) { await sendOn(this.stream, bytes) }
  async close () { await this.stream.close() }
  abort () { this.stream.abort(new Error('ended')) }
}

export class SocketPipe extends Pipe {
  constructor (socket) {
    super(socket, 1024 * 1024)
    this.socket = socket
    this.way = 'direct'
    socket.setNoDelay(true)
    socket.on('error', () => {}) // reads and writes say it
  }

  async send (bytes) {
    await new Promise((resolve, reject) => this.socket.write(bytes, error => error ? reject(error) : resolve()))
  }

  async close () { this.socket.end() }
  abort () { this.socket.destroy() }
}
