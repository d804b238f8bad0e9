import { BootError } from "./error.ts";

/** What this project wants to know of an ELF file for a 64-bit little-endian machine. */
export interface Elf {
  /** The program that loads it, `/lib/ld-linux-aarch64.so.1`; undefined for a library or a static program. */
  readonly interpreter: string | undefined;
  /** The libraries it names (DT_NEEDED), in order. */
  readonly needed: readonly string[];
  /** The bytes of a section, or undefined when it has none of that name. */
  section(name: string): Uint8Array | undefined;
}

const EM_AARCH64 = 183;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_LOAD = 1;
const DT_NULL = 0n;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const SHT_NOBITS = 8;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: bigint;
  readonly fileSize: number;
}

/**
 * Reads an arm64 ELF file (program, library or kernel module).
 * @throws BootError when it is not one, or is cut short
 */
export function parseElf(bytes: Uint8Array, name: string): Elf {
  const broken = (why: string) =>
    new BootError(`${name} is not an arm64 ELF file: ${why}`, "fetch or build it again");
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46) throw broken("the magic is missing");
  if (file[4] !== 2 || file[5] !== 1) throw broken("it is not 64-bit little-endian");
  if (file.readUInt16LE(18) !== EM_AARCH64) throw broken(`its machine is ${file.readUInt16LE(18)}`);
  const number = (at: number) => Number(file.readBigUInt64LE(at));
  try {
    const segments = Array.from({ length: file.readUInt16LE(56) }, (_, index): Segment => {
      const at = number(32) + index * file.readUInt16LE(54);
      return {
        type: file.readUInt32LE(at),
        offset: number(at + 8),
        address: file.readBigUInt64LE(at + 16),
        fileSize: number(at + 32),
      };
    });
    const interpreter = segments.find(({ type }) => type === PT_INTERP);
    return {
      interpreter: interpreter && cString(file, interpreter.offset),
      needed: readNeeded(file, segments),
      section: (section) => readSection(file, section),
    };
  } catch (error) {
    if (error instanceof RangeError) throw broken("it is cut short");
    throw error;
  }
}

function readNeeded(file: Buffer, segments: readonly Segment[]): string[] {
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (!dynamic) return [];
  const needed: bigint[] = [];
  let stringTable: bigint | undefined;
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.fileSize; at += 16) {
    const tag = file.readBigInt64LE(at);
    if (tag === DT_NULL) break;
    if (tag === DT_NEEDED) needed.push(file.readBigUInt64LE(at + 8));
    if (tag === DT_STRTAB) stringTable = file.readBigUInt64LE(at + 8);
  }
  if (stringTable === undefined) return [];
  const table = stringTable;
  // DT_STRTAB is an address; the segment that is loaded there says where it lies in the file.
  const home = segments.find(
    ({ type, address, fileSize }) =>
      type === PT_LOAD && table >= address && table < address + BigInt(fileSize),
  );
  if (!home) throw new RangeError("the string table is in no segment");
  const offset = home.offset + Number(table - home.address);
  return needed.map((name) => cString(file, offset + Number(name)));
}

function readSection(file: Buffer, wanted: string): Uint8Array | undefined {
  const table = Number(file.readBigUInt64LE(40));
  const entrySize = file.readUInt16LE(58);
  const names = table + file.readUInt16LE(62) * entrySize;
  const namesOffset = Number(file.readBigUInt64LE(names + 24));
  for (let index = 0; index < file.readUInt16LE(60); index++) {
    const at = table + index * entrySize;
    if (cString(file, namesOffset + file.readUInt32LE(at)) !== wanted) continue;
    if (file.readUInt32LE(at + 4) === SHT_NOBITS) return new Uint8Array();
    const offset = Number(file.readBigUInt64LE(at + 24));
    return file.subarray(offset, offset + Number(file.readBigUInt64LE(at + 32)));
  }
  return undefined;
}

function cString(file: Buffer, at: number): string {
  const end = file.indexOf(0, at);
  if (end < 0) throw new RangeError(`the string at ${at} does not end`);
  return file.toString("latin1", at, end);
}
