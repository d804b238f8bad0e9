/**
 * Mutants: small changes of the wasm itself, to find out whether the proof notices them.
 *
 * A mutant that is still proved is either equivalent to the original or shows something that no specification speaks of. Mutants are
 * made on the bytes that ship, not on the source, and each is a valid module. The same bytes, seed and sample give the same mutants.
 */

import { BY_NAME } from "./instructions.ts";
import { decode, type Func, type Instruction, instructions, type Module, type ValueType } from "./module.ts";
import type { SourceMap } from "./sourcemap.ts";

export interface Mutant {
  /** Names the mutant: the function, the byte and the change. */
  readonly id: string;
  readonly function: string;
  /** `file:line`, or `byte N` without a source map. */
  readonly where: string;
  readonly line: number | undefined;
  /** What was changed, in words. */
  readonly change: string;
  readonly bytes: Uint8Array;
}

export interface MutationOptions {
  /** At most this many, drawn at random; all when omitted. */
  readonly sample?: number;
  readonly seed?: number;
  readonly sourceMap?: SourceMap;
  /** Only in functions for which this holds. */
  readonly only?: (f: Func) => boolean;
}

/** A change before it is made: the bytes from `start` to `end` become `replacement`. */
interface Edit {
  readonly function: Func;
  readonly at: Instruction;
  readonly change: string;
  readonly start: number;
  readonly end: number;
  readonly replacement: readonly number[];
}

function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) + 128);
  }
}

function signed(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    const low = Number(rest & 0x7fn);
    if (rest >= -64n && rest < 64n) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}

function opcode(name: string): number[] {
  const code = BY_NAME.get(name)?.code ?? 0;
  return code > 0xff ? [code >> 8, ...unsigned(code & 0xff)] : [code];
}

const constant = (width: ValueType, value: bigint): number[] => [
  ...opcode(`i${width}.const`),
  ...signed(BigInt.asIntN(width, value)),
];

/** The module with one function's bytes edited, and the sizes of the function and of the code section put right. */
function apply(bytes: Uint8Array, module: Module, edit: Edit): Uint8Array {
  const { start, end, replacement } = edit;
  const f = edit.function.bytes;
  const body = [...bytes.subarray(f.start, start), ...replacement, ...bytes.subarray(end, f.end)];
  const section = [
    ...bytes.subarray(module.code.start, f.size),
    ...unsigned(body.length),
    ...body,
    ...bytes.subarray(f.end, module.code.end),
  ];
  return Uint8Array.from([
    ...bytes.subarray(0, module.code.size),
    ...unsigned(section.length),
    ...section,
    ...bytes.subarray(module.code.end),
  ]);
}

/** What each operator may become. Comparisons go to their neighbours and opposites, arithmetic to what is easily confused with it. */
const REPLACEMENTS: Record<string, readonly string[]> = {
  eq: ["ne"],
  ne: ["eq"],
  eqz: [],
  lt_u: ["le_u", "ge_u", "lt_s"],
  le_u: ["lt_u", "gt_u", "le_s"],
  gt_u: ["ge_u", "le_u", "gt_s"],
  ge_u: ["gt_u", "lt_u", "ge_s"],
  lt_s: ["le_s", "ge_s", "lt_u"],
  le_s: ["lt_s", "gt_s", "le_u"],
  gt_s: ["ge_s", "le_s", "gt_u"],
  ge_s: ["gt_s", "lt_s", "ge_u"],
  add: ["sub"],
  sub: ["add"],
  mul: ["add"],
  div_u: ["rem_u"],
  rem_u: ["div_u"],
  div_s: ["rem_s"],
  rem_s: ["div_s"],
  and: ["or", "xor"],
  or: ["and", "xor"],
  xor: ["or", "and"],
  shl: ["shr_u"],
  shr_u: ["shl", "shr_s"],
  shr_s: ["shr_u"],
  rotl: ["rotr"],
  rotr: ["rotl"],
};

/** Result type of an instruction that has exactly one, as the stack sees it. */
function resultType(code: string): ValueType | undefined {
  return code === "i" ? 32 : code === "I" ? 64 : undefined;
}

function constantEdits(f: Func, i: Instruction, random: () => number): Edit[] {
  const width: ValueType = i.op === "i32.const" ? 32 : 64;
  const bit = random() % width;
  const changes: [string, bigint][] = [
    ["plus 1", i.value + 1n],
    ["minus 1", i.value - 1n],
    [`with bit ${bit} flipped`, i.value ^ (1n << BigInt(bit))],
    ["replaced by 0", 0n],
  ];
  const values = new Map<bigint, string>([[i.value, ""]]);
  for (const [what, value] of changes) {
    const wrapped = BigInt.asUintN(width, value);
    if (!values.has(wrapped)) values.set(wrapped, what);
  }
  values.delete(i.value);
  return [...values].map(([value, what]) => ({
    function: f,
    at: i,
    change: `constant ${i.value} ${what}`,
    start: i.offset,
    end: i.end,
    replacement: constant(width, value),
  }));
}

/** Edits of one instruction by itself. */
function instructionEdits(module: Module, f: Func, i: Instruction, random: () => number): Edit[] {
  const edit = (change: string, replacement: readonly number[], start = i.offset, end = i.end): Edit => {
    return { function: f, at: i, change, start, end, replacement };
  };
  if (i.op === "i32.const" || i.op === "i64.const") return constantEdits(f, i, random);
  const edits: Edit[] = [];
  const [type = "", operator = ""] = i.op.split(".");
  if (i.row.immediate === "none" && operator in REPLACEMENTS) {
    for (const other of REPLACEMENTS[operator] ?? []) {
      edits.push(edit(`${i.op} replaced by ${type}.${other}`, opcode(`${type}.${other}`)));
    }
  }
  if (i.op === "i32.eqz") edits.push(edit("negation dropped", opcode("nop")));
  if (i.row.bytes > 0) {
    const memory = (displacement: number) => [...opcode(i.op), 0, ...unsigned(displacement)];
    const step = i.row.bytes;
    edits.push(edit(`${i.op} ${step} bytes further`, memory(i.displacement + step)));
    if (i.displacement >= step)
      edits.push(edit(`${i.op} ${step} bytes before`, memory(i.displacement - step)));
    if (i.row.results === "" && !i.op.includes("atomic")) {
      edits.push(edit(`${i.op} dropped`, [...opcode("drop"), ...opcode("drop")]));
    }
    const width = resultType(i.row.results);
    if (width)
      edits.push(
        edit(`result of ${i.op} replaced by 0`, [
          ...own(module, i),
          ...opcode("drop"),
          ...constant(width, 0n),
        ]),
      );
  }
  if (i.op === "call") {
    const callee = module.functions[i.index] as Func;
    const name = callee.name.split("/").at(-1);
    const drops = callee.params.flatMap(() => opcode("drop"));
    const zeros = callee.results.flatMap((width) => constant(width, 0n));
    edits.push(edit(`call of ${name} dropped`, [...drops, ...zeros]));
    if (zeros.length > 0)
      edits.push(edit(`result of ${name} replaced by 0`, [...own(module, i), ...opcode("drop"), ...zeros]));
  }
  if (i.op === "br_if" || i.op === "if" || i.op === "select") {
    const condition = (change: string, prefix: readonly number[]) =>
      edit(`${i.op} ${change}`, prefix, i.offset, i.offset);
    edits.push(condition("negated", opcode("i32.eqz")));
    edits.push(condition("always", [...opcode("drop"), ...constant(32, 1n)]));
    edits.push(condition("never", [...opcode("drop"), ...constant(32, 0n)]));
  }
  return edits;
}

/** The instruction itself as bytes, for edits that keep it. */
function own(module: Module, i: Instruction): number[] {
  if (i.op === "call") return [...opcode("call"), ...unsigned((module.functions[i.index] as Func).index)];
  return access(i, i.displacement);
}

/** A memory access with another static offset. */
function access(i: Instruction, displacement: number): number[] {
  return [...opcode(i.op), Math.log2(i.row.bytes), ...unsigned(displacement)];
}

/** How an instruction changes the height of the stack; none when the rest of the body is not reached. */
function heightChange(module: Module, i: Instruction): number | undefined {
  switch (i.op) {
    case "block":
    case "loop":
      return i.results.length;
    case "if":
      return i.results.length - 1;
    case "call": {
      const callee = module.functions[i.index] as Func;
      return callee.results.length - callee.params.length;
    }
    case "drop":
    case "local.set":
    case "br_if":
      return -1;
    case "select":
      return -2;
    case "local.tee":
      return 0;
    case "local.get":
    case "global.get":
      return 1;
    case "br":
    case "br_table":
    case "return":
    case "unreachable":
      return undefined;
    default:
      return i.row.results.length - i.row.operands.length;
  }
}

/** Statements of one body: runs of instructions that begin and end with nothing of theirs on the stack. */
function statements(module: Module, body: readonly Instruction[]): Instruction[][] {
  const list: Instruction[][] = [];
  let current: Instruction[] = [];
  let height = 0;
  for (const i of body) {
    const change = heightChange(module, i);
    if (change === undefined) return list;
    current.push(i);
    height += change;
    if (height < 0) return list;
    if (height === 0) {
      list.push(current);
      current = [];
    }
  }
  return list;
}

/** Whether a statement ends in an effect: a store, or a call whose result is not used. */
function isEffect(module: Module, statement: readonly Instruction[]): boolean {
  const last = statement.at(-1) as Instruction;
  if (last.op === "call") return (module.functions[last.index] as Func).results.length === 0;
  return last.row.bytes > 0 && last.row.results === "";
}

/** Neighbouring effects in the other order. */
function swapEdits(module: Module, f: Func, body: readonly Instruction[], bytes: Uint8Array): Edit[] {
  const list = statements(module, body);
  return list.slice(1).flatMap((second, n) => {
    const first = list[n] as Instruction[];
    if (!isEffect(module, first) || !isEffect(module, second)) return [];
    const [start, middle, end] = [first[0]?.offset ?? 0, second[0]?.offset ?? 0, second.at(-1)?.end ?? 0];
    const [a, b] = [bytes.subarray(start, middle), bytes.subarray(middle, end)];
    if (Buffer.from(a).equals(b)) return [];
    const at = first.at(-1) as Instruction;
    const change = `${describeEffect(module, at)} and ${describeEffect(module, second.at(-1) as Instruction)} swapped`;
    return [{ function: f, at, change, start, end, replacement: [...b, ...a] }];
  });
}

function describeEffect(module: Module, i: Instruction): string {
  return i.op === "call" ? `call of ${(module.functions[i.index] as Func).name.split("/").at(-1)}` : i.op;
}

/** Every body of a function: its own and those of its blocks. */
function* bodies(f: Func): Generator<readonly Instruction[]> {
  yield f.body;
  for (const i of instructions(f.body)) {
    if (i.body.length > 0) yield i.body;
    if (i.orElse) yield i.orElse;
  }
}

/** Numbers that depend on the seed alone. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  };
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = random() % (i + 1);
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

/**
 * Mutants of a module, in the order of the file, or of the draw when sampled.
 * @throws DecodeError when `bytes` is no supported module
 */
export function mutants(bytes: Uint8Array, options: MutationOptions = {}): Mutant[] {
  const module = decode(bytes);
  const random = generator(options.seed ?? 1);
  const edits = module.functions
    .filter((f) => !f.imported && (options.only?.(f) ?? true))
    .flatMap((f) => [
      ...[...instructions(f.body)].flatMap((i) => instructionEdits(module, f, i, random)),
      ...[...bodies(f)].flatMap((body) => swapEdits(module, f, body, bytes)),
    ]);
  const drawn = options.sample === undefined ? edits : shuffled(edits, random);
  const result: Mutant[] = [];
  for (const edit of drawn) {
    if (result.length === options.sample) break;
    const mutated = apply(bytes, module, edit);
    if (!WebAssembly.validate(mutated)) continue;
    const { offset } = edit.at;
    result.push({
      id: `${edit.function.name}@${offset}: ${edit.change}`,
      function: edit.function.name,
      where: options.sourceMap?.describe(offset, edit.function.bytes) ?? `byte ${offset}`,
      line: options.sourceMap?.at(offset, edit.function.bytes)?.line,
      change: edit.change,
      bytes: mutated,
    });
  }
  return result;
}
