/**
 * What a module of the core may be made of (DESIGN, "KCore: the language it is written in"): the imports that `machine.ts`
 * declares, integer instructions, direct calls that never recurse, constants, and one memory of fixed size. What the compiler
 * did to get there does not matter then.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { kcoreFolder, LINEAR_MEMORY_SIZE } from "./wasm.ts";

/** Section numbers of the binary format. */
const Section = {
  IMPORT: 2,
  TABLE: 4,
  MEMORY: 5,
  GLOBAL: 6,
  START: 8,
  ELEMENT: 9,
  CODE: 10,
  DATA: 11,
} as const;
const names: Readonly<Record<number, string>> = {
  0: "custom section",
  1: "types",
  3: "functions",
  7: "exports",
  [Section.IMPORT]: "imports",
  [Section.MEMORY]: "memory",
  [Section.GLOBAL]: "globals",
  [Section.CODE]: "code",
};
const forbidden: Readonly<Record<number, string>> = {
  [Section.TABLE]: "a table",
  [Section.START]: "a start function",
  [Section.ELEMENT]: "table elements",
  [Section.DATA]: "initial data",
  12: "a data count",
};

/** What follows an opcode: nothing, one number, the alignment and offset of an access, or a branch table. */
type Immediate = "none" | "number" | "access" | "labels";

/** Opcodes that are allowed: ranges, first and last, with what follows each. */
const allowed: readonly (readonly [first: number, last: number, Immediate])[] = [
  [0x00, 0x01, "none"], // unreachable, nop
  [0x02, 0x04, "number"], // block, loop, if
  [0x05, 0x05, "none"], // else
  [0x0b, 0x0b, "none"], // end
  [0x0c, 0x0d, "number"], // br, br_if
  [0x0e, 0x0e, "labels"], // br_table
  [0x0f, 0x0f, "none"], // return
  [0x10, 0x10, "number"], // call
  [0x1a, 0x1b, "none"], // drop, select
  [0x20, 0x23, "number"], // local.get, local.set, local.tee, global.get
  [0x28, 0x29, "access"], // i32.load, i64.load
  [0x2c, 0x37, "access"], // narrow loads; i32.store, i64.store
  [0x3a, 0x3e, "access"], // narrow stores
  [0x41, 0x42, "number"], // i32.const, i64.const
  [0x45, 0x5a, "none"], // comparisons of i32 and i64
  [0x67, 0x8a, "none"], // arithmetic of i32 and i64
  [0xa7, 0xa7, "none"], // i32.wrap_i64
  [0xac, 0xad, "none"], // i64.extend_i32
  [0xc0, 0xc4, "none"], // sign extension
  // With the prefix 0xfe: atomic load, store, add and compare-exchange of whole words.
  [0xfe10, 0xfe11, "access"],
  [0xfe17, 0xfe18, "access"],
  [0xfe1e, 0xfe1f, "access"],
  [0xfe48, 0xfe49, "access"],
];

class Reader {
  at = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw new Error("the module ends in the middle of something");
    return value;
  }

  /** An LEB128 number of up to 32 bits, or only its bytes where it is larger or signed. */
  number(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  take(length: number): Uint8Array {
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  text(): string {
    return new TextDecoder().decode(this.take(this.number()));
  }

  opcode(): number {
    const first = this.byte();
    return first >= 0xfc ? first * 256 + this.number() : first;
  }

  skip(immediate: Immediate): number {
    if (immediate === "none") return 0;
    if (immediate === "access") this.number();
    if (immediate === "labels") for (let left = this.number(); left > 0; left--) this.number();
    return this.number();
  }
}

/** Names that the core's sources import from `machine.ts`, and those that it declares. */
export function machineImports(): {
  readonly declared: ReadonlySet<string>;
  readonly used: ReadonlySet<string>;
} {
  const declared = new Set<string>();
  const used = new Set<string>();
  for (const name of readdirSync(kcoreFolder).filter((file) => file.endsWith(".ts"))) {
    const text = readFileSync(join(kcoreFolder, name), "utf8");
    if (name === "machine.ts")
      for (const [, one] of text.matchAll(/^export declare function (\w+)\(/gm)) declared.add(one as string);
    for (const [, list] of text.matchAll(/import \{([^}]*)\} from "\.\/machine"/g))
      for (const one of (list as string).split(",")) if (one.trim() !== "") used.add(one.trim());
  }
  return { declared, used };
}

/**
 * Everything in a module that a core must not have, as sentences; none when it is a core.
 * @param bytes a valid module
 * @param imports the names that it imports, neither more nor less
 */
export function checkWasm(bytes: Uint8Array, imports: ReadonlySet<string>): string[] {
  const complaints: string[] = [];
  const module = new Reader(bytes);
  module.take(8);
  let imported = 0;
  while (!module.isAtEnd) {
    const id = module.byte();
    const section = new Reader(module.take(module.number()));
    if (forbidden[id] !== undefined) complaints.push(`it has ${forbidden[id]}`);
    else if (names[id] === undefined) complaints.push(`it has a section of number ${id}`);
    if (id === Section.IMPORT) imported = checkImports(section, imports, complaints);
    if (id === Section.MEMORY) checkMemory(section, complaints);
    if (id === Section.GLOBAL) checkGlobals(section, complaints);
    if (id === Section.CODE) checkCode(section, imported, complaints);
  }
  return complaints;
}

function checkImports(section: Reader, expected: ReadonlySet<string>, complaints: string[]): number {
  const found = new Set<string>();
  const count = section.number();
  for (let left = count; left > 0; left--) {
    const name = `${section.text()}.${section.text()}`;
    const kind = section.byte();
    if (kind !== 0) {
      complaints.push(`it imports ${name}, which is no function`);
      return count;
    }
    section.number();
    found.add(name);
  }
  const wanted = new Set([...expected].map((name) => `machine.${name}`));
  for (const name of found) if (!wanted.has(name)) complaints.push(`it imports ${name}`);
  for (const name of wanted) if (!found.has(name)) complaints.push(`it does not import ${name}`);
  return count;
}

function checkMemory(section: Reader, complaints: string[]): void {
  const count = section.number();
  const flags = section.byte();
  const [least, most] = [section.number(), flags === 1 ? section.number() : undefined];
  const pages = LINEAR_MEMORY_SIZE / 65536;
  if (count !== 1 || flags !== 1 || least !== pages || most !== pages)
    complaints.push(`its memory is not one of ${pages} pages`);
}

function checkGlobals(section: Reader, complaints: string[]): void {
  for (let left = section.number(); left > 0; left--) {
    const type = section.byte();
    const isMutable = section.byte() === 1;
    const opcode = section.opcode();
    if (isMutable) complaints.push("it has a global that changes");
    if ((type !== 0x7f && type !== 0x7e) || (opcode !== 0x41 && opcode !== 0x42)) {
      complaints.push("it has a global that is no integer constant");
      return;
    }
    section.number();
    section.byte();
  }
}

function checkCode(section: Reader, imported: number, complaints: string[]): void {
  const calls: number[][] = [];
  const count = section.number();
  for (let n = 0; n < count; n++) {
    const body = new Reader(section.take(section.number()));
    for (let left = body.number(); left > 0; left--) {
      body.number();
      const type = body.byte();
      if (type !== 0x7f && type !== 0x7e)
        complaints.push(`function ${imported + n} has a local that is no integer`);
    }
    calls.push(checkBody(body, imported + n, complaints));
  }
  checkRecursion(calls, imported, complaints);
}

/** The functions that a body calls. */
function checkBody(body: Reader, index: number, complaints: string[]): number[] {
  const calls: number[] = [];
  while (!body.isAtEnd) {
    const opcode = body.opcode();
    const row = allowed.find(([first, last]) => opcode >= first && opcode <= last);
    if (row === undefined) {
      complaints.push(`function ${index} has the instruction 0x${opcode.toString(16)}`);
      return calls;
    }
    const number = body.skip(row[2]);
    if (opcode === 0x10) calls.push(number);
  }
  return calls;
}

/** Removes functions that call nothing that is left, again and again: what remains calls itself. */
function checkRecursion(calls: readonly number[][], imported: number, complaints: string[]): void {
  const left = new Set(calls.keys());
  for (let before = -1; before !== left.size; ) {
    before = left.size;
    for (const n of left) if (!calls[n]?.some((called) => left.has(called - imported))) left.delete(n);
  }
  if (left.size > 0)
    complaints.push(`functions ${[...left].map((n) => n + imported).join(", ")} lead back to themselves`);
}
