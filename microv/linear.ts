/**
 * Linear memory as the executor sees it: an interface, so that a core's logic may put its own in place, and the ordinary one.
 *
 * The ordinary one keeps 64-bit words, keyed by address[31:3]. Each access must be aligned to its size (an obligation where it is not
 * evident), so it touches one word, and a load of half a word is a piece of it.
 */

import { add, band, concat, eq, extract, ite, sub, ult } from "./build.ts";
import { Memory } from "./memory.ts";
import type { Module } from "./module.ts";
import type { State } from "./state.ts";
import { bv, type Term } from "./term.ts";

/** The memories of a state, by name, and the way to demand something of it. The address is known to be in bounds. */
export interface Access {
  readonly state: State;
  readonly memories: Record<string, Memory>;
  /** Effective address, 32 bits. */
  readonly address: Term;
  /** Atomic instructions say so; what other processors do meanwhile is for the implementation to model. */
  readonly atomic: boolean;
  oblige(name: string, goal: Term): void;
}

export interface LinearMemory {
  /** The `bytes` bytes at the address, as a little-endian word of `8 * bytes` bits. */
  load(access: Access, bytes: number): Term;
  /** Writes a word of 8, 16, 32 or 64 bits. */
  store(access: Access, value: Term): void;
  /** Writes the byte `value` to `length` addresses. */
  fill(access: Access, value: Term, length: Term): void;
  /** Copies `length` bytes from `source`, as if through a buffer. */
  copy(access: Access, source: Term, length: Term): void;
}

const KEY_WIDTH = 29;
const key = (address: Term) => extract(31, 3, address);

/** Byte `index` of a word. */
const byte = (word: Term, index: number) => extract(8 * index + 7, 8 * index, word);

/** Memory of 64-bit words in `memories[name]`, from 29-bit keys. */
export class WordMemory implements LinearMemory {
  readonly name: string;

  constructor(name = "linear") {
    this.name = name;
  }

  /** Linear memory with arbitrary contents: the uninterpreted function `base`. */
  static arbitrary(base: string): Memory {
    return Memory.arbitrary(base, KEY_WIDTH, 64);
  }

  /** Linear memory as instantiation leaves it: zeros and data segments. */
  static initial(module: Module): Memory {
    const words = new Map<number, bigint>();
    for (const { offset, bytes } of module.data) {
      for (const [i, value] of bytes.entries()) {
        const word = (offset + i) >>> 3;
        const shift = BigInt(8 * ((offset + i) & 7));
        words.set(word, ((words.get(word) ?? 0n) & ~(0xffn << shift)) | (BigInt(value) << shift));
      }
    }
    let memory = Memory.filled(KEY_WIDTH, bv(0, 64));
    for (const [word, value] of words) memory = memory.store(bv(word, KEY_WIDTH), bv(value, 64));
    return memory;
  }

  /** What a field of `bytes` bytes at the constant or symbolic `address` holds; it must be aligned to its size. */
  static field(memory: Memory, address: Term | number, bytes: number): Term {
    const at = typeof address === "number" ? bv(address, 32) : address;
    return part(memory.read(key(at)), at, bytes);
  }

  private memory(access: Access): Memory {
    const memory = access.memories[this.name];
    if (!memory) throw new Error(`the state has no memory called ${this.name}`);
    return memory;
  }

  private aligned(access: Access, bytes: number): void {
    if (bytes === 1) return;
    const low = band(access.address, bv(bytes - 1, 32));
    access.oblige("linear memory is accessed aligned", eq(low, bv(0, 32)));
  }

  load(access: Access, bytes: number): Term {
    this.aligned(access, bytes);
    return WordMemory.field(this.memory(access), access.address, bytes);
  }

  store(access: Access, value: Term): void {
    const bytes = value.width / 8;
    this.aligned(access, bytes);
    const memory = this.memory(access);
    const word = key(access.address);
    access.memories[this.name] = memory.store(word, replaced(memory, word, access.address, value));
  }

  fill(access: Access, value: Term, length: Term): void {
    const start = access.address;
    access.memories[this.name] = this.memory(access).rewrite((word, old) =>
      eachByte(word, (address, index) => ite(ult(sub(address, start), length), value, byte(old, index))),
    );
  }

  copy(access: Access, source: Term, length: Term): void {
    const before = this.memory(access);
    const distance = sub(source, access.address);
    access.memories[this.name] = before.rewrite((word, old) =>
      eachByte(word, (address, index) => {
        const from = add(address, distance);
        const inside = ult(sub(address, access.address), length);
        return ite(inside, part(before.read(key(from)), from, 1), byte(old, index));
      }),
    );
  }
}

/** The word whose bytes, most significant first, are given by address and index. */
function eachByte(word: Term, value: (address: Term, index: number) => Term): Term {
  const indices = [7, 6, 5, 4, 3, 2, 1, 0];
  return concat(...indices.map((index) => value(concat(word, bv(index, 3)), index)));
}

/** The `bytes` bytes of `word` at the aligned `address`. */
function part(word: Term, address: Term, bytes: number): Term {
  if (bytes === 8) return word;
  const last = 8 / bytes - 1;
  const position = extract(2, Math.log2(bytes), address);
  const piece = (i: number) => extract(8 * bytes * (i + 1) - 1, 8 * bytes * i, word);
  let result = piece(last);
  for (let i = last - 1; i >= 0; i--) result = ite(eq(position, bv(i, position.width)), piece(i), result);
  return result;
}

/** What `word` holds after `value` was written at the aligned `address` in it. */
function replaced(memory: Memory, word: Term, address: Term, value: Term): Term {
  if (value.width === 64) return value;
  const old = memory.read(word);
  const pieces: Term[] = [];
  for (let i = 64 / value.width - 1; i >= 0; i--) {
    const position = extract(2, Math.log2(value.width / 8), address);
    const here = eq(position, bv(i, position.width));
    pieces.push(ite(here, value, extract(value.width * (i + 1) - 1, value.width * i, old)));
  }
  return concat(...pieces);
}
