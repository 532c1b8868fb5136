// The tables of fields in specs/03-wire.md, read as a schema: plain JSON in, checked values out, ready for `pack`.

import { readFileSync } from 'node:fs'

const ESCAPED_BAR = '\\|'

// Splits a text at a separator that is in no parentheses, quotes or backticks.
const split = (text, separator) => {
  const parts = ['']
  let [depth, quote] = [0, null]
  for (let at = 0; at < text.length; at++) {
    const sign = text[at]
    if (quote !== null) quote = sign === quote ? null : quote
    else if (sign === '`' || sign === '"') quote = sign
    else if (sign === '(') depth += 1
    else if (sign === ')') depth -= 1
    if (quote === null && depth === 0 && text.startsWith(separator, at)) {
      parts.push('')
      at += separator.length - 1
    } else parts[parts.length - 1] += sign
  }
  return parts
}

const number = text => {
  const [, sign, base, power] = /^(-?)(\d+)(?:\^(\d+))?$/.exec(text)
  const value = power === undefined ? Number(base) : Number(base) ** Number(power)
  return sign === '-' ? -value : value
}

// `16`, `1..16`, `..16` or nothing -> [least, most]
const bounds = text => {
  if (text === undefined) return [0, Infinity]
  const [low, high] = text.includes('..') ? text.split('..') : [text, text]
  return [low === '' ? 0 : number(low), number(high)]
}

const within = (size, [low, high], what) => {
  if (size < low || size > high) throw new RangeError(`${what}: ${size} is not within ${low}..${high}`)
}

// A type as the documents write it -> (plain value, schema) -> value
const reader = type => {
  const [, kind, range, rest] = /^(int|bytes|text|list|flag)?(?: ([-\d.^]+))?(.*)$/s.exec(type)
  const limits = bounds(range)
  switch (kind) {
    case 'int': return value => { within(value, limits, 'number'); return value }
    case 'bytes': return value => { const raw = Buffer.from(value, 'hex'); within(raw.length, limits, 'bytes'); return raw }
    case 'flag': return value => { if (typeof value !== 'boolean') throw new TypeError('no flag'); return value }
    case 'text': {
      const pattern = rest.trim() === '' ? null : new RegExp(rest.trim().slice(1, -1))
      return value => {
        within([...value].length, limits, 'text')
        if (pattern !== null && !pattern.test(value)) throw new RangeError(`${value} is not like ${pattern}`)
        return value
      }
    }
    case 'list': {
      const items = split(rest.replace(/^ of /, ''), ' and ').map(item => reader(item.slice(1, -1)))
      return (value, schema) => {
        within(value.length, items.length === 1 ? limits : [items.length, items.length], 'list')
        return value.map((item, place) => items[items.length === 1 ? 0 : place](item, schema))
      }
    }
  }
  if (type.startsWith('"')) {
    const known = split(type, ' or ').map(word => word.slice(1, -1))
    return value => { if (!known.includes(value)) throw new RangeError(`${value} is none of ${known}`); return value }
  }
  return (value, schema) => schema.read(type, value)
}

class Schema {
  constructor (rows) { this.rows = rows } // [name, [[field, reader, isOptional]]]

  // The value of a type by its name in the tables; throws when its fields are others, or out of bounds.
  read (name, value) {
    const present = Object.keys(value).filter(key => key !== 'type').join(' ')
    const row = this.rows.find(([title, fields]) => title === name && present ===
      fields.filter(([field, , isOptional]) => !isOptional || field in value).map(([field]) => field).join(' '))
    if (row === undefined) throw new RangeError(`no ${name} has the fields ${present}`)
    const found = row[1].filter(([field]) => field in value).map(([field, read]) => [field, read(value[field], this)])
    return { ...(name.startsWith('`') ? { type: name.slice(1, -1) } : {}), ...Object.fromEntries(found) }
  }
}

export const schemaOf = file => {
  const rows = []
  let isFields = false
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (!line.startsWith('|')) isFields = false
    else if (line === '| type | fields |') isFields = true
    else if (isFields && !line.startsWith('| ---')) {
      const [name, text] = line.slice(2, -2).split(' | ').map(cell => cell.replaceAll(ESCAPED_BAR, '|').trim())
      const fields = split(text ?? '', ', ').filter(field => field !== '').map(field => {
        const [, title, type, mark] = /^(\S+) (.*?)(\??)$/s.exec(field)
        return [title, reader(type), mark === '?']
      })
      rows.push([name, fields])
    }
  }
  return new Schema(rows)
}
