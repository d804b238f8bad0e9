/** The instruction set the verifier understands, as a table: everything else about an instruction is derived from its row. */

/**
 * What follows the opcode: `block` a block type, `label` a branch depth, `labels` a branch table, `function`/`local`/`global` an
 * index, `memory` alignment and offset, `zero`/`zeros` one or two reserved bytes, `i32`/`i64` a constant.
 */
export type Immediate =
  | "none"
  | "block"
  | "label"
  | "labels"
  | "function"
  | "local"
  | "global"
  | "memory"
  | "zero"
  | "zeros"
  | "i32"
  | "i64";

/** One row: `operands` and `results` are strings of value types, `i` for i32 and `I` for i64; `*` where it depends on the context. */
export interface Row {
  readonly code: number;
  readonly name: string;
  readonly immediate: Immediate;
  readonly operands: string;
  readonly results: string;
  /** Bytes that a memory access touches; 0 for everything else. */
  readonly bytes: number;
}

function row(
  code: number,
  name: string,
  immediate: Immediate,
  operands: string,
  results: string,
  bytes = 0,
): Row {
  return { code, name, immediate, operands, results, bytes };
}

/** Consecutive opcodes of one shape. */
function rows(first: number, type: string, names: string, operands: string, results: string): Row[] {
  return names.split(" ").map((name, i) => row(first + i, `${type}.${name}`, "none", operands, results));
}

const COMPARISONS = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
const COUNTS = "clz ctz popcnt";
const ARITHMETIC = "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr";

/** Opcodes above 0xff have a prefix byte: 0xfc (bulk memory) or 0xfe (threads). */
export const ROWS: readonly Row[] = [
  row(0x00, "unreachable", "none", "", "*"),
  row(0x01, "nop", "none", "", ""),
  row(0x02, "block", "block", "*", "*"),
  row(0x03, "loop", "block", "*", "*"),
  row(0x04, "if", "block", "*", "*"),
  row(0x05, "else", "none", "*", "*"),
  row(0x0b, "end", "none", "*", "*"),
  row(0x0c, "br", "label", "*", "*"),
  row(0x0d, "br_if", "label", "*", "*"),
  row(0x0e, "br_table", "labels", "*", "*"),
  row(0x0f, "return", "none", "*", "*"),
  row(0x10, "call", "function", "*", "*"),
  row(0x1a, "drop", "none", "*", ""),
  row(0x1b, "select", "none", "*", "*"),
  row(0x20, "local.get", "local", "", "*"),
  row(0x21, "local.set", "local", "*", ""),
  row(0x22, "local.tee", "local", "*", "*"),
  row(0x23, "global.get", "global", "", "*"),
  row(0x28, "i32.load", "memory", "i", "i", 4),
  row(0x29, "i64.load", "memory", "i", "I", 8),
  row(0x2c, "i32.load8_s", "memory", "i", "i", 1),
  row(0x2d, "i32.load8_u", "memory", "i", "i", 1),
  row(0x2e, "i32.load16_s", "memory", "i", "i", 2),
  row(0x2f, "i32.load16_u", "memory", "i", "i", 2),
  row(0x30, "i64.load8_s", "memory", "i", "I", 1),
  row(0x31, "i64.load8_u", "memory", "i", "I", 1),
  row(0x32, "i64.load16_s", "memory", "i", "I", 2),
  row(0x33, "i64.load16_u", "memory", "i", "I", 2),
  row(0x34, "i64.load32_s", "memory", "i", "I", 4),
  row(0x35, "i64.load32_u", "memory", "i", "I", 4),
  row(0x36, "i32.store", "memory", "ii", "", 4),
  row(0x37, "i64.store", "memory", "iI", "", 8),
  row(0x3a, "i32.store8", "memory", "ii", "", 1),
  row(0x3b, "i32.store16", "memory", "ii", "", 2),
  row(0x3c, "i64.store8", "memory", "iI", "", 1),
  row(0x3d, "i64.store16", "memory", "iI", "", 2),
  row(0x3e, "i64.store32", "memory", "iI", "", 4),
  row(0x3f, "memory.size", "zero", "", "i"),
  row(0x41, "i32.const", "i32", "", "i"),
  row(0x42, "i64.const", "i64", "", "I"),
  row(0x45, "i32.eqz", "none", "i", "i"),
  ...rows(0x46, "i32", COMPARISONS, "ii", "i"),
  row(0x50, "i64.eqz", "none", "I", "i"),
  ...rows(0x51, "i64", COMPARISONS, "II", "i"),
  ...rows(0x67, "i32", COUNTS, "i", "i"),
  ...rows(0x6a, "i32", ARITHMETIC, "ii", "i"),
  ...rows(0x79, "i64", COUNTS, "I", "I"),
  ...rows(0x7c, "i64", ARITHMETIC, "II", "I"),
  row(0xa7, "i32.wrap_i64", "none", "I", "i"),
  row(0xac, "i64.extend_i32_s", "none", "i", "I"),
  row(0xad, "i64.extend_i32_u", "none", "i", "I"),
  row(0xc0, "i32.extend8_s", "none", "i", "i"),
  row(0xc1, "i32.extend16_s", "none", "i", "i"),
  row(0xc2, "i64.extend8_s", "none", "I", "I"),
  row(0xc3, "i64.extend16_s", "none", "I", "I"),
  row(0xc4, "i64.extend32_s", "none", "I", "I"),
  row(0xfc0a, "memory.copy", "zeros", "iii", ""),
  row(0xfc0b, "memory.fill", "zero", "iii", ""),
  row(0xfe03, "atomic.fence", "zero", "", ""),
  row(0xfe10, "i32.atomic.load", "memory", "i", "i", 4),
  row(0xfe11, "i64.atomic.load", "memory", "i", "I", 8),
  row(0xfe16, "i64.atomic.load32_u", "memory", "i", "I", 4),
  row(0xfe17, "i32.atomic.store", "memory", "ii", "", 4),
  row(0xfe18, "i64.atomic.store", "memory", "iI", "", 8),
  row(0xfe1d, "i64.atomic.store32", "memory", "iI", "", 4),
  row(0xfe1e, "i32.atomic.rmw.add", "memory", "ii", "i", 4),
  row(0xfe1f, "i64.atomic.rmw.add", "memory", "iI", "I", 8),
  row(0xfe24, "i64.atomic.rmw32.add_u", "memory", "iI", "I", 4),
  row(0xfe41, "i32.atomic.rmw.xchg", "memory", "ii", "i", 4),
  row(0xfe42, "i64.atomic.rmw.xchg", "memory", "iI", "I", 8),
  row(0xfe47, "i64.atomic.rmw32.xchg_u", "memory", "iI", "I", 4),
  row(0xfe48, "i32.atomic.rmw.cmpxchg", "memory", "iii", "i", 4),
  row(0xfe49, "i64.atomic.rmw.cmpxchg", "memory", "iII", "I", 8),
];

export const BY_CODE: ReadonlyMap<number, Row> = new Map(ROWS.map((r) => [r.code, r]));
export const BY_NAME: ReadonlyMap<string, Row> = new Map(ROWS.map((r) => [r.name, r]));
