/**
 * The wasm decoder: bytes to a module whose function bodies are trees of structured instructions, each with its byte offset.
 *
 * It is small because it is trusted. It does not check types: `decode` first asks the engine (`WebAssembly.validate`) whether the
 * bytes are a valid module, and refuses them if not, so everything after may rely on well-typed stacks and indices in range. What is
 * valid but outside the supported subset is refused with the name or number of the construct and its byte offset.
 */

import { BY_CODE, type Row } from "./instructions.ts";

/** Bits of a value: 32 for i32, 64 for i64. */
export type ValueType = 32 | 64;

export interface Signature {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}

/** One instruction. Which of the optional fields it has is said by the immediate of its row. */
export interface Instruction {
  readonly op: string;
  readonly row: Row;
  /** Position of the opcode in the file, and of the byte after the instruction (for a block: after its `end`). */
  readonly offset: number;
  readonly end: number;
  /** Function, local, global or branch depth. */
  readonly index: number;
  /** Constant, as an unsigned number. */
  readonly value: bigint;
  /** Static offset of a memory access. */
  readonly displacement: number;
  /** Targets of a `br_table`, the default last. */
  readonly labels: readonly number[];
  /** Result types of a block. */
  readonly results: readonly ValueType[];
  /** Instructions inside a block, and those after its `else`. */
  readonly body: readonly Instruction[];
  readonly orElse: readonly Instruction[] | undefined;
}

export interface Func extends Signature {
  readonly index: number;
  /** `module.field` of an import; else the name from the name section, the export name, or `#index`, in that order. */
  readonly name: string;
  readonly exports: readonly string[];
  /** Module and field of an imported function. */
  readonly imported: { readonly module: string; readonly field: string } | undefined;
  /** Locals after the parameters. */
  readonly locals: readonly ValueType[];
  /** Names of parameters and locals, where the name section gives them. */
  readonly localNames: ReadonlyMap<number, string>;
  readonly body: readonly Instruction[];
  /** Bytes of the function in the code section: its size field, its body, and the first byte after it. */
  readonly bytes: { readonly size: number; readonly start: number; readonly end: number };
}

export interface Global {
  readonly width: ValueType;
  readonly mutable: boolean;
  readonly value: bigint;
}

/** Limits in pages of 64 KiB. */
export interface Limits {
  readonly min: number;
  readonly max: number | undefined;
  readonly shared: boolean;
}

export interface Module {
  readonly types: readonly Signature[];
  readonly functions: readonly Func[];
  /** Everything imported, functions included, as `module.field`. */
  readonly imports: readonly { readonly name: string; readonly kind: "function" | "memory" }[];
  readonly memory: Limits | undefined;
  readonly globals: readonly Global[];
  readonly exports: readonly { readonly name: string; readonly kind: string; readonly index: number }[];
  readonly data: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly hasStart: boolean;
  readonly tables: number;
  readonly elements: number;
  /** Range of the code section: its size field and its contents. */
  readonly code: { readonly size: number; readonly start: number; readonly end: number };
  /** The byte length of the file. */
  readonly length: number;
}

/** Bytes that are no module, or a module outside the supported subset. */
export class DecodeError extends Error {
  readonly offset: number;

  constructor(what: string, offset: number) {
    super(`${what} at byte ${offset} (0x${offset.toString(16)})`);
    this.name = "DecodeError";
    this.offset = offset;
  }
}

/** Reads numbers and vectors from left to right. */
class Reader {
  at: number;
  private readonly bytes: Uint8Array;
  readonly limit: number;

  constructor(bytes: Uint8Array, at: number, limit: number) {
    this.bytes = bytes;
    this.at = at;
    this.limit = limit;
  }

  byte(): number {
    const value = this.bytes[this.at];
    if (value === undefined || this.at >= this.limit) throw new DecodeError("unexpected end", this.at);
    this.at++;
    return value;
  }

  /** LEB128; `bits` bounds the number of bytes as the specification does. */
  private leb(bits: number, isSigned: boolean): bigint {
    const start = this.at;
    let value = 0n;
    let shift = 0;
    for (;;) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << BigInt(shift);
      shift += 7;
      if ((byte & 0x80) === 0) return isSigned ? BigInt.asIntN(shift, value) : value;
      if (shift >= bits) throw new DecodeError(`number of more than ${bits} bits`, start);
    }
  }

  u32(): number {
    return Number(this.leb(32, false));
  }

  signed(bits: ValueType): bigint {
    return BigInt.asUintN(bits, this.leb(bits, true));
  }

  take(length: number): Uint8Array {
    if (this.at + length > this.limit) throw new DecodeError("unexpected end", this.limit);
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  text(): string {
    return new TextDecoder().decode(this.take(this.u32()));
  }

  list<T>(read: () => T): T[] {
    return Array.from({ length: this.u32() }, read);
  }

  inner(length: number): Reader {
    const start = this.at;
    this.take(length);
    return new Reader(this.bytes, start, this.at);
  }

  type(): ValueType {
    const code = this.byte();
    if (code === 0x7f) return 32;
    if (code === 0x7e) return 64;
    const names: Record<number, string> = {
      125: "f32",
      124: "f64",
      123: "v128",
      112: "funcref",
      111: "externref",
    };
    throw new DecodeError(`unsupported type ${names[code] ?? `0x${code.toString(16)}`}`, this.at - 1);
  }
}

function blockResults(reader: Reader): ValueType[] {
  const code = reader.byte();
  if (code === 0x40) return [];
  reader.at--;
  if (code < 0x40) throw new DecodeError("unsupported block with parameters or several results", reader.at);
  return [reader.type()];
}

function readRow(reader: Reader): Row {
  const start = reader.at;
  let code = reader.byte();
  if (code >= 0xfb && code <= 0xfe) code = (code << 8) | reader.u32();
  const row = BY_CODE.get(code);
  if (!row)
    throw new DecodeError(`unsupported instruction ${opcodeName(code)} (0x${code.toString(16)})`, start);
  return row;
}

/** Names of the instructions people are most likely to meet outside the subset. */
function opcodeName(code: number): string {
  const known: Record<number, string> = {
    17: "call_indirect",
    28: "select with types",
    36: "global.set",
    64: "memory.grow",
  };
  if (known[code]) return known[code];
  if ((code >= 0x2a && code <= 0x39) || code === 0x43 || code === 0x44) return "on floats";
  if ((code >= 0x5b && code <= 0x66) || (code >= 0x8b && code <= 0xbf)) return "on floats";
  return code > 0xff ? "with a prefix" : "";
}

/** Instructions up to the `end` or `else` that closes them; which of the two it was is told. */
function readBody(reader: Reader): { body: Instruction[]; closed: string } {
  const body: Instruction[] = [];
  for (;;) {
    const offset = reader.at;
    const row = readRow(reader);
    if (row.name === "end" || row.name === "else") return { body, closed: row.name };
    body.push(readInstruction(reader, row, offset));
  }
}

function readInstruction(reader: Reader, row: Row, offset: number): Instruction {
  let index = 0;
  let value = 0n;
  let displacement = 0;
  let labels: number[] = [];
  let results: ValueType[] = [];
  let body: Instruction[] = [];
  let orElse: Instruction[] | undefined;
  switch (row.immediate) {
    case "block": {
      results = blockResults(reader);
      const first = readBody(reader);
      body = first.body;
      if (first.closed === "else") orElse = readBody(reader).body;
      break;
    }
    case "label":
    case "function":
    case "local":
    case "global":
      index = reader.u32();
      break;
    case "labels":
      labels = [...reader.list(() => reader.u32()), reader.u32()];
      break;
    case "memory":
      if (reader.u32() >= 0x40) throw new DecodeError("unsupported second memory", offset);
      displacement = reader.u32();
      break;
    case "zeros":
    case "zero":
      for (const byte of reader.take(row.immediate === "zero" ? 1 : 2)) {
        if (byte !== 0) throw new DecodeError("unsupported second memory", offset);
      }
      break;
    case "i32":
      value = reader.signed(32);
      break;
    case "i64":
      value = reader.signed(64);
      break;
  }
  return {
    op: row.name,
    row,
    offset,
    end: reader.at,
    index,
    value,
    displacement,
    labels,
    results,
    body,
    orElse,
  };
}

/** A constant expression: one constant, or the value of an earlier global. */
function readConstant(reader: Reader, globals: readonly Global[]): bigint {
  const { body } = readBody(reader);
  const only = body[0];
  if (body.length === 1 && only?.row.immediate === "global") return globals[only.index]?.value ?? 0n;
  if (body.length === 1 && only && (only.op === "i32.const" || only.op === "i64.const")) return only.value;
  throw new DecodeError("unsupported initial value", only?.offset ?? reader.at);
}

const KINDS = ["function", "table", "memory", "global", "tag"];

/**
 * Decodes a module.
 * @throws DecodeError when the bytes are no valid module, or use an instruction, type or section outside the supported subset;
 *   the message names it and its byte offset.
 */
export function decode(bytes: Uint8Array): Module {
  if (!WebAssembly.validate(bytes)) throw new DecodeError("not a valid WebAssembly module", 0);
  const reader = new Reader(bytes, 8, bytes.length);
  const types: Signature[] = [];
  const imports: {
    name: string;
    kind: "function" | "memory";
    module: string;
    field: string;
    type: number;
  }[] = [];
  const typeOf: number[] = [];
  const globals: Global[] = [];
  let exports: { name: string; kind: string; index: number }[] = [];
  const bodies: Pick<Func, "locals" | "body" | "bytes">[] = [];
  let data: { offset: number; bytes: Uint8Array }[] = [];
  let memory: Limits | undefined;
  let code = { size: bytes.length, start: bytes.length, end: bytes.length };
  let hasStart = false;
  let tables = 0;
  let elements = 0;
  let names: { functions: Map<number, string>; locals: Map<number, Map<number, string>> } | undefined;

  const onlyMemory = (r: Reader): Limits => {
    if (memory) throw new DecodeError("unsupported second memory", r.at);
    const flags = r.byte();
    if (flags > 3) throw new DecodeError("unsupported 64-bit memory", r.at - 1);
    const min = r.u32();
    return { min, max: flags & 1 ? r.u32() : undefined, shared: (flags & 2) !== 0 };
  };

  while (reader.at < bytes.length) {
    const sectionAt = reader.at;
    const id = reader.byte();
    const size = reader.at;
    const r = reader.inner(reader.u32());
    switch (id) {
      case 0:
        if (r.text() === "name") names = readNames(r);
        break;
      case 1:
        types.push(
          ...r.list(() => {
            if (r.byte() !== 0x60) throw new DecodeError("unsupported type definition", r.at - 1);
            return { params: r.list(() => r.type()), results: r.list(() => r.type()) };
          }),
        );
        break;
      case 2:
        for (let left = r.u32(); left > 0; left--) {
          const at = r.at;
          const module = r.text();
          const field = r.text();
          const kind = KINDS[r.byte()];
          const name = `${module}.${field}`;
          if (kind === "function") imports.push({ name, kind, module, field, type: r.u32() });
          else if (kind === "memory") {
            memory = onlyMemory(r);
            imports.push({ name, kind, module, field, type: 0 });
          } else throw new DecodeError(`unsupported import of a ${kind}, ${name},`, at);
        }
        break;
      case 3:
        typeOf.push(...r.list(() => r.u32()));
        break;
      case 4:
        tables = r.u32();
        break;
      case 5:
        for (let left = r.u32(); left > 0; left--) memory = onlyMemory(r);
        break;
      case 6:
        for (let left = r.u32(); left > 0; left--) {
          const width = r.type();
          const mutable = r.byte() === 1;
          globals.push({ width, mutable, value: readConstant(r, globals) });
        }
        break;
      case 7:
        exports = r.list(() => ({ name: r.text(), kind: KINDS[r.byte()] ?? "unknown", index: r.u32() }));
        break;
      case 8:
        hasStart = true;
        break;
      case 9:
        elements = r.u32();
        break;
      case 10:
        code = { size, start: r.at, end: r.limit };
        for (let left = r.u32(); left > 0; left--) bodies.push(readFunction(r));
        break;
      case 11:
        data = r.list(() => {
          if (r.u32() !== 0) throw new DecodeError("unsupported passive data segment", r.at - 1);
          return { offset: Number(readConstant(r, globals)), bytes: r.take(r.u32()) };
        });
        break;
      case 12:
        break;
      default:
        throw new DecodeError(`unsupported section ${id}`, sectionAt);
    }
  }

  const imported = imports.filter((entry) => entry.kind === "function");
  const functions = [...imported.map((entry) => entry.type), ...typeOf].map((type, index): Func => {
    const exported = exports.filter((e) => e.kind === "function" && e.index === index).map((e) => e.name);
    const origin = imported[index];
    const own = bodies[index - imported.length];
    const none = { locals: [], body: [], bytes: { size: 0, start: 0, end: 0 } };
    return {
      index,
      name: origin?.name ?? names?.functions.get(index) ?? exported[0] ?? `#${index}`,
      exports: exported,
      imported: origin && { module: origin.module, field: origin.field },
      ...(types[type] as Signature),
      ...(own ?? none),
      localNames: names?.locals.get(index) ?? new Map(),
    };
  });
  return {
    types,
    functions,
    imports,
    memory,
    globals,
    exports,
    data,
    hasStart,
    tables,
    elements,
    code,
    length: bytes.length,
  };
}

function readFunction(r: Reader): Pick<Func, "locals" | "body" | "bytes"> {
  const size = r.at;
  const inner = r.inner(r.u32());
  const bytes = { size, start: inner.at, end: inner.limit };
  const locals = inner.list(() => {
    const repeat = inner.u32();
    return new Array<ValueType>(repeat).fill(inner.type());
  });
  const { body } = readBody(inner);
  if (inner.at !== inner.limit) throw new DecodeError("bytes after the end of a function", inner.at);
  return { locals: locals.flat(), body, bytes };
}

/** The name section, as far as functions and locals go. */
function readNames(r: Reader) {
  const functions = new Map<number, string>();
  const locals = new Map<number, Map<number, string>>();
  while (r.at < r.limit) {
    const kind = r.byte();
    const inner = r.inner(r.u32());
    if (kind === 1) for (let left = inner.u32(); left > 0; left--) functions.set(inner.u32(), inner.text());
    if (kind === 2) {
      for (let left = inner.u32(); left > 0; left--) {
        const map = new Map<number, string>();
        locals.set(inner.u32(), map);
        for (let more = inner.u32(); more > 0; more--) map.set(inner.u32(), inner.text());
      }
    }
  }
  return { functions, locals };
}

/**
 * The function called `name`: an export, which is what the outside calls; else a full name; else the last part of a path-like name
 * (`walk` for `core/pagetable/walk`). The name section is not trusted: a name that several functions have is refused.
 * @throws Error that names what was asked for and the functions there are.
 */
export function functionNamed(module: Module, name: string): Func {
  const { functions } = module;
  const exported = functions.find((f) => f.exports.includes(name));
  if (exported) return exported;
  const full = functions.filter((f) => f.name === name);
  const found =
    full.length > 0 ? full : functions.filter((f) => !f.imported && f.name.split("/").at(-1) === name);
  if (found.length === 1) return found[0] as Func;
  if (found.length > 1)
    throw new Error(`several functions are called ${name}: ${found.map((f) => f.name).join(", ")}`);
  throw new Error(`no function is called ${name}; there are ${functions.map((f) => f.name).join(", ")}`);
}

/** Every instruction of a body, those inside blocks included, in the order of the file. */
export function* instructions(body: readonly Instruction[]): Generator<Instruction> {
  for (const instruction of body) {
    yield instruction;
    yield* instructions(instruction.body);
    if (instruction.orElse) yield* instructions(instruction.orElse);
  }
}
