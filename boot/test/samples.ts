/** Small files of the kinds that boot/ reads, made to order for its tests. */

import { readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { TestContext } from "node:test";
import { type Cache, openCache } from "../cache.ts";
import type { Job, Progress } from "../job.ts";

/** A new folder that is removed when the test ends. */
export async function temporaryFolder(test: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "corevisor-test-"));
  test.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A job with a cache of its own, and the progress it has told. */
export async function testJob(
  test: TestContext,
  signal: AbortSignal = new AbortController().signal,
): Promise<Job & { readonly told: Progress[]; readonly cache: Cache }> {
  const told: Progress[] = [];
  const cache = await openCache(join(await temporaryFolder(test), "cache"));
  return { cache, signal, told, onProgress: (progress) => told.push(progress) };
}

const usualPath = process.env.PATH;

/**
 * Makes these scripts commands that go before all others, or the only ones, until the test ends.
 * @param scripts text by command name, each with its `#!` line
 */
export async function commandsOnPath(
  test: TestContext,
  scripts: Readonly<Record<string, string>>,
  others: "kept" | "hidden" = "kept",
): Promise<string> {
  const folder = join(await temporaryFolder(test), "bin");
  await mkdir(folder);
  for (const [name, text] of Object.entries(scripts)) {
    await writeFile(join(folder, name), text);
    await chmod(join(folder, name), 0o755);
  }
  process.env.PATH = others === "kept" ? [folder, usualPath].join(delimiter) : folder;
  test.after(() => {
    process.env.PATH = usualPath;
  });
  return folder;
}

/** Whether a process has ended, though nobody may have asked for its status yet. */
export function hasEnded(pid: number): boolean {
  try {
    return /^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return true;
  }
}

/** `mov w0, #0xe11 ; eret`, where a kernel says that it was entered at EL1. */
export const bootModeSite = Buffer.from([0x20, 0xc2, 0x81, 0x52, 0xe0, 0x03, 0x9f, 0xd6]);

/** An arm64 Image: its header, then these pieces at their offsets. */
export function sampleImage(
  pieces: readonly { readonly at: number; readonly bytes: Uint8Array }[] = [],
  options: { size?: number; imageSize?: bigint; peSectionEnd?: number } = {},
): Buffer {
  const image = Buffer.alloc(options.size ?? 4096);
  image.write("MZ", 0, "latin1");
  image.writeBigUInt64LE(options.imageSize ?? 8192n, 16);
  image.write("ARM\x64", 56, "latin1");
  if (options.peSectionEnd !== undefined) {
    const pe = 64;
    image.writeUInt32LE(pe, 60);
    image.write("PE\0\0", pe, "latin1");
    image.writeUInt16LE(1, pe + 6); // sections
    image.writeUInt16LE(0, pe + 20); // optional header
    const section = pe + 24;
    image.writeUInt32LE(options.peSectionEnd - 512, section + 16); // raw size
    image.writeUInt32LE(512, section + 20); // raw offset
  }
  for (const { at, bytes } of pieces) image.set(bytes, at);
  return image;
}

/** Puts BTF blobs together, a type a call. Type ids count from 1. */
export class BtfBuilder {
  readonly #words: number[] = [];
  #strings = "\0";
  #count = 0;

  int(name: string, size: number): number {
    return this.#type(name, 1, 0, size, [size * 8]);
  }

  pointer(to: number): number {
    return this.#type("", 2, 0, to);
  }

  array(of: number, length: number): number {
    return this.#type("", 3, 0, 0, [of, of, length]);
  }

  typedef(name: string, to: number): number {
    return this.#type(name, 8, 0, to);
  }

  volatile(to: number): number {
    return this.#type("", 9, 0, to);
  }

  /** @param members name, type, offset in bits, size in bits of a bit-field */
  struct(
    name: string,
    size: number,
    members: readonly (readonly [string, number, number, number?])[],
  ): number {
    return this.#composite(4, name, size, members);
  }

  union(
    name: string,
    size: number,
    members: readonly (readonly [string, number, number, number?])[],
  ): number {
    return this.#composite(5, name, size, members);
  }

  enumeration(name: string, values: Readonly<Record<string, number>>): number {
    const entries = Object.entries(values);
    const signed = entries.some(([, value]) => value < 0);
    const words = entries.flatMap(([enumerator, value]) => [this.#string(enumerator), value >>> 0]);
    return this.#type(name, 6, entries.length, 4, words, signed);
  }

  enumeration64(name: string, values: Readonly<Record<string, bigint>>): number {
    const entries = Object.entries(values);
    const words = entries.flatMap(([enumerator, value]) => [
      this.#string(enumerator),
      Number(BigInt.asUintN(32, value)),
      Number(BigInt.asUintN(32, value >> 32n)),
    ]);
    return this.#type(name, 19, entries.length, 8, words);
  }

  build(): Buffer {
    const types = Buffer.alloc(this.#words.length * 4);
    this.#words.forEach((word, index) => {
      types.writeUInt32LE(word, index * 4);
    });
    const strings = Buffer.from(this.#strings, "latin1");
    const header = Buffer.alloc(24);
    header.writeUInt16LE(0xeb9f, 0);
    header.writeUInt8(1, 2);
    [24, 0, types.length, types.length, strings.length].forEach((word, index) => {
      header.writeUInt32LE(word, 4 + index * 4);
    });
    return Buffer.concat([header, types, strings]);
  }

  #composite(
    kind: number,
    name: string,
    size: number,
    members: readonly (readonly [string, number, number, number?])[],
  ): number {
    const hasBitfields = members.some(([, , , bits]) => bits !== undefined);
    const words = members.flatMap(([member, type, offset, bits = 0]) => [
      this.#string(member),
      type,
      hasBitfields ? ((bits << 24) | offset) >>> 0 : offset,
    ]);
    return this.#type(name, kind, members.length, size, words, hasBitfields);
  }

  #type(
    name: string,
    kind: number,
    length: number,
    sizeOrType: number,
    words: number[] = [],
    flag = false,
  ): number {
    const info = ((flag ? 1 << 31 : 0) | (kind << 24) | length) >>> 0;
    this.#words.push(this.#string(name), info, sizeOrType, ...words);
    return ++this.#count;
  }

  #string(text: string): number {
    if (text === "") return 0;
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return at;
  }
}

/** An arm64 ELF file with a dynamic section, an interpreter, and sections, where asked for. */
export function sampleElf(
  parts: {
    readonly needed?: readonly string[];
    readonly interpreter?: string;
    readonly sections?: Readonly<Record<string, string>>;
    readonly machine?: number;
  } = {},
): Buffer {
  const chunks: Buffer[] = [];
  let size = 64 + 3 * 56;
  const put = (bytes: Buffer) => {
    const at = size;
    chunks.push(bytes);
    size += bytes.length;
    return at;
  };
  const base = 0x10000n;
  const segments: { type: number; offset: number; size: number }[] = [];
  if (parts.needed) {
    let strings = "\0";
    const names = parts.needed.map((name) => {
      const at = strings.length;
      strings += `${name}\0`;
      return at;
    });
    const stringsAt = put(Buffer.from(strings, "latin1"));
    const dynamic = Buffer.alloc((names.length + 2) * 16);
    names.forEach((name, index) => {
      dynamic.writeBigInt64LE(1n, index * 16);
      dynamic.writeBigUInt64LE(BigInt(name), index * 16 + 8);
    });
    dynamic.writeBigInt64LE(5n, names.length * 16);
    dynamic.writeBigUInt64LE(base + BigInt(stringsAt), names.length * 16 + 8);
    segments.push({ type: 2, offset: put(dynamic), size: dynamic.length });
  }
  if (parts.interpreter !== undefined) {
    const bytes = Buffer.from(`${parts.interpreter}\0`, "latin1");
    segments.push({ type: 3, offset: put(bytes), size: bytes.length });
  }
  const sections = Object.entries(parts.sections ?? {}).map(([name, content]) => {
    const bytes = Buffer.from(content, "latin1");
    return { name, offset: put(bytes), size: bytes.length };
  });
  let sectionNames = "\0";
  const named = [...sections, { name: ".shstrtab", offset: 0, size: 0 }].map((section) => {
    const nameAt = sectionNames.length;
    sectionNames += `${section.name}\0`;
    return { ...section, nameAt };
  });
  const namesAt = put(Buffer.from(sectionNames, "latin1"));
  const last = named.at(-1);
  if (last) Object.assign(last, { offset: namesAt, size: sectionNames.length });
  const table = Buffer.alloc(named.length * 64);
  named.forEach(({ nameAt, offset, size: length }, index) => {
    table.writeUInt32LE(nameAt, index * 64);
    table.writeUInt32LE(1, index * 64 + 4);
    table.writeBigUInt64LE(BigInt(offset), index * 64 + 24);
    table.writeBigUInt64LE(BigInt(length), index * 64 + 32);
  });
  const tableAt = put(table);
  segments.push({ type: 1, offset: 0, size });

  const header = Buffer.alloc(64 + 3 * 56);
  header.writeUInt32BE(0x7f454c46, 0);
  header.set([2, 1, 1], 4);
  header.writeUInt16LE(parts.machine ?? 183, 18);
  header.writeBigUInt64LE(64n, 32);
  header.writeBigUInt64LE(BigInt(tableAt), 40);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(segments.length, 56);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(named.length, 60);
  header.writeUInt16LE(named.length - 1, 62);
  segments.forEach(({ type, offset, size: length }, index) => {
    const at = 64 + index * 56;
    header.writeUInt32LE(type, at);
    header.writeBigUInt64LE(BigInt(offset), at + 8);
    header.writeBigUInt64LE(base + BigInt(offset), at + 16);
    header.writeBigUInt64LE(BigInt(length), at + 32);
  });
  return Buffer.concat([header, ...chunks]);
}
