import { readFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { BootError, systemCode } from "./error.ts";

/** The header of an arm64 `Image` (Documentation/arch/arm64/booting.rst), and the bytes it stands before. */
export interface KernelImage {
  /** What the image was read from, for messages. */
  readonly name: string;
  /** The uncompressed Image. */
  readonly bytes: Uint8Array;
  /** Where it wants to lie above a 2 MiB boundary. */
  readonly textOffset: bigint;
  /** Bytes of memory it takes from its first byte on, bss included. */
  readonly imageSize: bigint;
}

const headerSize = 64;
const magic = 0x644d5241; // "ARM\x64"
const magicOffset = 56;

/**
 * The end of init_kernel_el's EL1 path in arch/arm64/kernel/head.S: `mov w0, #BOOT_CPU_MODE_EL1 ; eret`. With the other
 * constant the kernel believes that it was entered at EL2 and hands its KVM's calls to whoever is there: the core.
 */
const bootModeEl1 = [0x5281c220, 0xd69f03e0] as const; // mov w0, #0xe11 ; eret
const bootModeEl2 = 0x5281c240; // mov w0, #0xe12

/**
 * Reads a kernel file.
 * @throws BootError when there is no such file, or it is not a complete arm64 Image, see parseImage
 */
export async function readImage(path: string): Promise<KernelImage> {
  try {
    return parseImage(await readFile(path), path);
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined || error instanceof BootError) throw error;
    throw new BootError(`cannot read the kernel ${path} (${code})`, "name an arm64 Image with --kernel", {
      cause: error,
    });
  }
}

/**
 * Takes a raw Image (as Debian's vmlinuz is), one compressed with gzip, or an EFI zboot file with a gzip payload.
 * @throws BootError when it is none of these, or not for arm64, or truncated
 */
export function parseImage(file: Uint8Array, name: string): KernelImage {
  const bytes = uncompress(file, name);
  if (bytes.length < headerSize || view(bytes).getUint32(magicOffset, true) !== magic) {
    throw new BootError(
      `kernel ${name} is not an arm64 Image: ${describe(bytes)}`,
      "give an arm64 kernel Image",
    );
  }
  const header = view(bytes);
  const needed = fileSizeOf(bytes);
  if (bytes.length < needed) {
    throw new BootError(
      `kernel ${name} is truncated: it has ${bytes.length} of ${needed} bytes`,
      "copy or download it again",
    );
  }
  // Kernels before 3.17 leave image_size 0; the boot protocol then promises nothing about their bss.
  const imageSize = header.getBigUint64(16, true);
  if (imageSize === 0n) {
    throw new BootError(`kernel ${name} does not say its size (image_size is 0)`, "use Linux 6.12 or newer");
  }
  return { name, bytes, textOffset: header.getBigUint64(8, true), imageSize };
}

/** The kernel's version, `6.12.117+deb12-cloud-arm64`, from its banner; undefined when it has none. */
export function kernelRelease(image: KernelImage): string | undefined {
  const banner = "Linux version ";
  const bytes = Buffer.from(image.bytes.buffer, image.bytes.byteOffset, image.bytes.byteLength);
  for (let at = bytes.indexOf(banner); at >= 0; at = bytes.indexOf(banner, at + 1)) {
    const release = /^([0-9][\w.+~-]*) /.exec(
      bytes.toString("latin1", at + banner.length, at + banner.length + 128),
    );
    if (release) return release[1];
  }
  return undefined;
}

/**
 * A copy of the Image that takes its boot CPU to have been entered at EL2. One immediate of one instruction changes.
 * @returns the copy, and the file offset of the patched word
 * @throws BootError when the place to patch is not there exactly once
 */
export function patchBootMode(image: KernelImage): { bytes: Uint8Array; offset: number } {
  const sites = findWords(image.bytes, bootModeEl1);
  const [offset] = sites;
  if (offset === undefined || sites.length > 1) {
    const found =
      sites.length === 0 ? "nowhere" : `at ${sites.map((site) => `0x${site.toString(16)}`).join(", ")}`;
    throw new BootError(
      `kernel ${image.name} cannot be patched: "mov w0, #0xe11; eret" must occur once and occurs ${found}`,
      "use Debian's linux-image-*-cloud-arm64 6.12, or run with --core off",
    );
  }
  const bytes = Uint8Array.from(image.bytes);
  view(bytes).setUint32(offset, bootModeEl2, true);
  return { bytes, offset };
}

/** The offsets of every place where these instruction words follow one another. */
function findWords(bytes: Uint8Array, words: readonly number[]): number[] {
  const pattern = Buffer.alloc(words.length * 4);
  words.forEach((word, index) => {
    pattern.writeUInt32LE(word, index * 4);
  });
  const haystack = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sites: number[] = [];
  for (let at = haystack.indexOf(pattern); at >= 0; at = haystack.indexOf(pattern, at + 1)) {
    if (at % 4 === 0) sites.push(at);
  }
  return sites;
}

/** The raw Image in a kernel file. */
function uncompress(file: Uint8Array, name: string): Uint8Array {
  if (file[0] === 0x1f && file[1] === 0x8b) return gunzip(file, name);
  // An EFI zboot file (drivers/firmware/efi/libstub/zboot-header.S): "MZ", "zimg", payload offset and size, compression name.
  if (file.length < headerSize || text(file, 0, 2) !== "MZ" || text(file, 4, 8) !== "zimg") return file;
  const offset = view(file).getUint32(8, true);
  const size = view(file).getUint32(12, true);
  const [compression = ""] = text(file, 24, 56).split("\0");
  if (compression !== "gzip") {
    throw new BootError(
      `kernel ${name} is an EFI zboot file compressed with ${compression}, which is not supported`,
      "unpack it to a raw Image",
    );
  }
  if (offset + size > file.length) {
    throw new BootError(
      `kernel ${name} is truncated: it has ${file.length} of ${offset + size} bytes`,
      "copy or download it again",
    );
  }
  return gunzip(file.subarray(offset, offset + size), name);
}

function gunzip(compressed: Uint8Array, name: string): Uint8Array {
  try {
    return gunzipSync(compressed);
  } catch (error) {
    throw new BootError(
      `kernel ${name} is damaged or truncated: its gzip data ends early or does not match its checksum`,
      "copy or download it again",
      { cause: error },
    );
  }
}

/**
 * The bytes the file must have: up to the end of the last section that its PE header (the EFI stub's) names. An Image without the
 * EFI stub does not say, because image_size counts bss too.
 */
function fileSizeOf(bytes: Uint8Array): number {
  const header = view(bytes);
  const pe = header.getUint32(60, true);
  if (pe === 0) return headerSize;
  if (pe + 24 > bytes.length) return pe + 24;
  if (text(bytes, pe, pe + 4) !== "PE\0\0") return headerSize;
  const sectionCount = header.getUint16(pe + 6, true);
  const table = pe + 24 + header.getUint16(pe + 20, true);
  let end = table + sectionCount * 40;
  if (end > bytes.length) return end;
  for (let section = table; section < table + sectionCount * 40; section += 40) {
    end = Math.max(end, header.getUint32(section + 20, true) + header.getUint32(section + 16, true));
  }
  return end;
}

/** What a file that is no arm64 Image seems to be. */
function describe(bytes: Uint8Array): string {
  if (bytes.length < headerSize) return `it has only ${bytes.length} bytes`;
  if (text(bytes, 0, 4) === "\x7fELF") return "it is an ELF file (a vmlinux?)";
  if (text(bytes, 0x202, 0x206) === "HdrS") return "it is an x86 bzImage";
  if (text(bytes, 0x30, 0x34) === "RISC") return "it is a RISC-V Image";
  return "the magic ARM\\x64 at byte 56 is missing";
}

function text(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.subarray(from, to)).toString("latin1");
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
