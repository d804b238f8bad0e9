import { BootError } from "./error.ts";
import type { Region } from "./fdt.ts";

/**
 * Where everything lies in the physical memory of QEMU's `virt` machine (hw/arm/virt.c), lowest first:
 *
 * | what | where |
 * | --- | --- |
 * | core region: the core's image, then all memory it ever uses | start of RAM, see coreRegionSize; the image 2 MiB above |
 * | the host's kernel Image | after the core region |
 * | the host's initrd | after the Image and its bss |
 * | the host's device tree | after the initrd |
 *
 * All start at multiples of 2 MiB, and none overlaps the device tree that QEMU makes for `-kernel` itself.
 */
export interface HostLayout {
  readonly ram: Region;
  readonly core: Region;
  readonly image: Region;
  readonly initrd: Region | undefined;
  readonly deviceTree: Region;
}

export const MiB = 1n << 20n;
export const GiB = 1n << 30n;

/** First byte of RAM. */
export const ramBase = 0x4000_0000n;

/** QEMU loads a `-kernel` whose header says text_offset 0 this far into RAM (hw/arm/boot.c, KERNEL64_LOAD_ADDR aside). */
const kernelLoadOffset = 2n * MiB;

/** Where QEMU loads the core's image and enters it. */
export const coreEntry = ramBase + kernelLoadOffset;

/** Linux maps the device tree by one 2 MiB block and takes none that is larger (Documentation/arch/arm64/booting.rst). */
export const deviceTreeLimit = 2n * MiB;

/** What the kernel needs for itself before it has started anything, roughly; less ends in a panic that explains little. */
const kernelHeadroom = 64n * MiB;

const blockSize = 2n * MiB;

/** Sizes of RAM that are asked for are multiples of this. */
const memoryStep = 64n * MiB;

/** The size of the core region: 1/128 of RAM for the owner table and the pool of page tables, 16 MiB at least. */
export function coreRegionSize(ramSize: bigint): bigint {
  const share = alignUp(ramSize / 128n);
  return share > 16n * MiB ? share : 16n * MiB;
}

/** What has to be placed, in bytes. */
export interface HostSizes {
  readonly ram: bigint;
  /** The Image with its bss (image_size). */
  readonly image: bigint;
  readonly textOffset: bigint;
  /** 0 for none. */
  readonly initrd: bigint;
}

/**
 * The layout of a host with the core below it.
 * @throws BootError when RAM is too small, naming a size that is enough
 */
export function planHost(sizes: HostSizes): HostLayout {
  const { layout, needed } = arrange(sizes);
  if (needed <= sizes.ram) return layout;
  let enough = alignUp(needed, memoryStep);
  // What QEMU occupies moves with the size of RAM.
  while (arrange({ ...sizes, ram: enough }).needed > enough) enough += memoryStep;
  throw tooSmall(sizes.ram, enough);
}

/** Places everything one after another, and says how much RAM that takes, at least. */
function arrange(sizes: HostSizes): { layout: HostLayout; needed: bigint } {
  const ram = { base: ramBase, size: sizes.ram };
  const core = { base: ramBase, size: coreRegionSize(sizes.ram) };
  // hw/arm/boot.c puts its own device tree where an initrd would begin.
  const half = sizes.ram / 2n;
  const qemuTree = { base: ramBase + (half < 128n * MiB ? half : 128n * MiB), size: deviceTreeLimit };
  let free = core.base + core.size;
  const place = (size: bigint, offset = 0n): Region => {
    let base = alignUp(free) + offset;
    if (base < qemuTree.base + qemuTree.size && qemuTree.base < base + size) {
      base = alignUp(qemuTree.base + qemuTree.size) + offset;
    }
    free = base + size;
    return { base, size };
  };
  const image = place(sizes.image, sizes.textOffset);
  const initrd = sizes.initrd > 0n ? place(sizes.initrd) : undefined;
  const deviceTree = place(deviceTreeLimit);
  // The kernel unpacks the initrd to a copy.
  return {
    layout: { ram, core, image, initrd, deviceTree },
    needed: free - ramBase + sizes.initrd + kernelHeadroom,
  };
}

/**
 * Checks that RAM has room for a host without the core.
 * @throws BootError when it does not, naming a size that is enough
 */
export function checkMemory(sizes: Omit<HostSizes, "textOffset">): void {
  const needed = sizes.image + 2n * sizes.initrd + kernelHeadroom;
  if (sizes.ram < needed) throw tooSmall(sizes.ram, alignUp(needed, memoryStep));
}

function tooSmall(ram: bigint, enough: bigint): BootError {
  return new BootError(
    `--memory ${formatSize(ram)} is too small for this kernel and initrd`,
    `give --memory ${formatSize(enough)} or more`,
  );
}

/**
 * The bytes in a size such as `512M`, `4G` or `1024` (MiB, as for QEMU's -m).
 * @throws BootError when it is no size, or no multiple of 2 MiB
 */
export function parseSize(text: string): bigint {
  const parts = /^(\d+)([MGT]?)(?:i?B)?$/i.exec(text.trim());
  const shift = { "": 20n, M: 20n, G: 30n, T: 40n }[parts?.[2]?.toUpperCase() ?? ""] ?? 20n;
  const size = parts?.[1] === undefined ? 0n : BigInt(parts[1]) << shift;
  if (size > 0n && size % blockSize === 0n) return size;
  throw new BootError(`--memory ${text} is not a size`, "give a multiple of 2 MiB, such as 1024M or 4G");
}

/** A size as `--memory` takes it, rounded up to whole MiB. */
export function formatSize(bytes: bigint): string {
  if (bytes >= GiB && bytes % GiB === 0n) return `${bytes / GiB}G`;
  return `${(bytes + MiB - 1n) / MiB}M`;
}

function alignUp(value: bigint, to: bigint = blockSize): bigint {
  return ((value + to - 1n) / to) * to;
}
