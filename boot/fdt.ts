import { BootError } from "./error.ts";

/** A node of a device tree. Properties keep their order, as the order of children may matter to a reader. */
export interface FdtNode {
  name: string;
  readonly properties: Map<string, Uint8Array>;
  readonly children: FdtNode[];
}

/** A flattened device tree, taken apart. */
export interface Fdt {
  readonly root: FdtNode;
  /** Memory that the kernel must leave alone. */
  readonly reservations: { address: bigint; size: bigint }[];
  /** Physical id of the boot CPU. */
  readonly bootCpu: number;
}

/** A piece of physical memory. */
export interface Region {
  readonly base: bigint;
  readonly size: bigint;
}

const fdtMagic = 0xd00dfeed;
const headerSize = 40;
const version = 17;
const lastCompatibleVersion = 16;
const Token = { BEGIN_NODE: 1, END_NODE: 2, PROP: 3, NOP: 4, END: 9 } as const;

/**
 * Takes a blob of the Devicetree Specification, chapter 5, apart.
 * @param name what it was read from, for messages
 * @throws BootError when it is not a well-formed blob of version 16 or 17
 */
export function parseFdt(blob: Uint8Array, name = "device tree"): Fdt {
  const damaged = (why: string) =>
    new BootError(`${name} is damaged: ${why}`, "give a compiled device tree (.dtb)");
  if (blob.length < headerSize) throw damaged(`it has only ${blob.length} bytes`);
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const word = (at: number) => {
    if (at < 0 || at + 4 > blob.length) throw damaged(`it ends before byte ${at + 4}`);
    return view.getUint32(at);
  };
  const cString = (at: number) => {
    const end = blob.indexOf(0, at);
    if (at >= blob.length || end < 0) throw damaged(`the string at byte ${at} does not end`);
    return Buffer.from(blob.subarray(at, end)).toString("latin1");
  };
  if (word(0) !== fdtMagic)
    throw damaged(`its magic is 0x${word(0).toString(16)}, not 0x${fdtMagic.toString(16)}`);
  if (word(4) > blob.length) throw damaged(`it has ${blob.length} of ${word(4)} bytes`);
  if (word(24) > version || word(20) < lastCompatibleVersion) throw damaged(`it has version ${word(20)}`);

  const reservations: Fdt["reservations"] = [];
  for (let at = word(16); ; at += 16) {
    word(at + 12); // Both halves are inside.
    const reservation = { address: view.getBigUint64(at), size: view.getBigUint64(at + 8) };
    if (reservation.address === 0n && reservation.size === 0n) break;
    reservations.push(reservation);
  }

  const strings = word(12);
  const open: FdtNode[] = [];
  let root: FdtNode | undefined;
  let at = word(8);
  for (;;) {
    const token = word(at);
    at += 4;
    const node = open.at(-1);
    switch (token) {
      case Token.BEGIN_NODE: {
        const child: FdtNode = { name: cString(at), properties: new Map(), children: [] };
        at = align4(at + child.name.length + 1);
        if (node) node.children.push(child);
        else if (root) throw damaged("it has two roots");
        else root = child;
        open.push(child);
        break;
      }
      case Token.PROP: {
        if (!node) throw damaged("a property stands outside every node");
        const length = word(at);
        const property = cString(strings + word(at + 4));
        const start = at + 8;
        if (start + length > blob.length) throw damaged(`property ${property} ends outside`);
        node.properties.set(property, blob.slice(start, start + length));
        at = align4(start + length);
        break;
      }
      case Token.END_NODE:
        if (!open.pop()) throw damaged("a node ends twice");
        break;
      case Token.NOP:
        break;
      case Token.END:
        if (!root || open.length > 0) throw damaged("it ends inside a node");
        return { root, reservations, bootCpu: word(28) };
      default:
        throw damaged(`token ${token} at byte ${at - 4}`);
    }
  }
}

/** Puts a device tree together again as a blob of version 17. */
export function formatFdt(fdt: Fdt): Uint8Array {
  const structure: Uint8Array[] = [];
  const strings: Uint8Array[] = [];
  const stringAt = new Map<string, number>();
  let stringsSize = 0;
  const nameOffset = (property: string) => {
    let offset = stringAt.get(property);
    if (offset === undefined) {
      offset = stringsSize;
      stringAt.set(property, offset);
      const bytes = Buffer.from(`${property}\0`, "latin1");
      strings.push(bytes);
      stringsSize += bytes.length;
    }
    return offset;
  };
  const write = (node: FdtNode) => {
    structure.push(cells(Token.BEGIN_NODE), padded(Buffer.from(`${node.name}\0`, "latin1")));
    for (const [property, value] of node.properties) {
      structure.push(cells(Token.PROP, value.length, nameOffset(property)), padded(value));
    }
    node.children.forEach(write);
    structure.push(cells(Token.END_NODE));
  };
  write(fdt.root);
  structure.push(cells(Token.END));

  const reservations = Buffer.concat([
    ...fdt.reservations.map(({ address, size }) => cells64(address, size)),
    cells64(0n, 0n),
  ]);
  const structureBytes = Buffer.concat(structure);
  const structureAt = headerSize + reservations.length;
  const stringsAt = structureAt + structureBytes.length;
  const header = cells(
    fdtMagic,
    stringsAt + stringsSize,
    structureAt,
    stringsAt,
    headerSize,
    version,
    lastCompatibleVersion,
    fdt.bootCpu,
    stringsSize,
    structureBytes.length,
  );
  return Buffer.concat([header, reservations, structureBytes, ...strings]);
}

/** The node at a path such as `/chosen` or `/cpus/cpu@0`, or undefined. A step without `@` also matches a unit address. */
export function findNode(fdt: Fdt, path: string): FdtNode | undefined {
  let node: FdtNode | undefined = fdt.root;
  for (const step of path.split("/").filter((part) => part !== "")) {
    node = node?.children.find(({ name }) => name === step || name.split("@")[0] === step);
  }
  return node;
}

/**
 * The memory that the tree describes, in the order of its nodes.
 * @throws BootError when it describes none
 */
export function memoryRegions(fdt: Fdt): Region[] {
  const { addressCells, sizeCells } = rootCells(fdt);
  const stride = 4 * (addressCells + sizeCells);
  const regions = memoryNodes(fdt).flatMap((node) => {
    const reg = node.properties.get("reg") ?? new Uint8Array();
    if (reg.length % stride !== 0) throw noMemory(`node ${node.name} has a reg of ${reg.length} bytes`);
    return Array.from({ length: reg.length / stride }, (_, index) => {
      const at = index * stride;
      return {
        base: readCells(reg, at, addressCells),
        size: readCells(reg, at + 4 * addressCells, sizeCells),
      };
    });
  });
  const present = regions.filter(({ size }) => size > 0n);
  if (present.length === 0) throw noMemory('no node with device_type "memory" has a size');
  return present;
}

/**
 * The affinity of each CPU that the tree describes, as in MPIDR_EL1, in the order of the nodes.
 * @throws BootError when it describes none
 */
export function cpuAffinities(fdt: Fdt): bigint[] {
  const cpus = findNode(fdt, "/cpus");
  const cells = cpus?.properties.get("#address-cells");
  const count = cells?.length === 4 ? Number(readCells(cells, 0, 1)) : 2;
  const nodes = cpus?.children.filter(({ name }) => /^cpu(@|$)/.test(name)) ?? [];
  const affinities = nodes.flatMap(({ properties }) => {
    const reg = properties.get("reg");
    return reg?.length === 4 * count ? [readCells(reg, 0, count)] : [];
  });
  if (affinities.length === nodes.length && nodes.length > 0) return affinities;
  throw new BootError(
    "the device tree describes no CPUs that can be told apart",
    "give one with /cpus nodes",
  );
}

/** Makes the tree describe exactly this memory, one node a region. Memory nodes that were there are dropped. */
export function setMemory(fdt: Fdt, regions: readonly Region[]): void {
  const { addressCells, sizeCells } = rootCells(fdt);
  const old = new Set(memoryNodes(fdt));
  const kept = fdt.root.children.filter((child) => !old.has(child));
  const nodes = regions.map(({ base, size }): FdtNode => {
    const reg = Buffer.concat([writeCells(base, addressCells), writeCells(size, sizeCells)]);
    return {
      name: `memory@${base.toString(16)}`,
      properties: new Map([
        ["device_type", fdtString("memory")],
        ["reg", reg],
      ]),
      children: [],
    };
  });
  fdt.root.children.splice(0, fdt.root.children.length, ...kept, ...nodes);
}

/** Sets the kernel command line and the place of the initrd in /chosen, which is created where it is missing. */
export function setChosen(
  fdt: Fdt,
  chosen: { readonly bootArguments: string; readonly initrd?: Region | undefined },
): void {
  let node = findNode(fdt, "/chosen");
  if (!node) {
    node = { name: "chosen", properties: new Map(), children: [] };
    fdt.root.children.push(node);
  }
  node.properties.set("bootargs", fdtString(chosen.bootArguments));
  node.properties.delete("linux,initrd-start");
  node.properties.delete("linux,initrd-end");
  if (chosen.initrd) {
    const { base, size } = chosen.initrd;
    node.properties.set("linux,initrd-start", cells64(base));
    node.properties.set("linux,initrd-end", cells64(base + size));
  }
}

/** A string property's value. */
export function fdtString(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, "utf8");
}

/** Cuts a piece out of regions: what is left of them outside it. */
export function withoutRegion(regions: readonly Region[], hole: Region): Region[] {
  const holeEnd = hole.base + hole.size;
  return regions.flatMap(({ base, size }) => {
    const end = base + size;
    if (holeEnd <= base || end <= hole.base) return [{ base, size }];
    const pieces: Region[] = [];
    if (base < hole.base) pieces.push({ base, size: hole.base - base });
    if (holeEnd < end) pieces.push({ base: holeEnd, size: end - holeEnd });
    return pieces;
  });
}

function memoryNodes(fdt: Fdt): FdtNode[] {
  return fdt.root.children.filter(
    ({ properties }) => Buffer.from(properties.get("device_type") ?? []).toString("latin1") === "memory\0",
  );
}

function rootCells(fdt: Fdt): { addressCells: number; sizeCells: number } {
  const count = (name: string, otherwise: number) => {
    const value = fdt.root.properties.get(name);
    const number = value?.length === 4 ? Number(readCells(value, 0, 1)) : otherwise;
    if (number < 1 || number > 2) throw noMemory(`${name} is ${number}`);
    return number;
  };
  // The defaults are the specification's.
  return { addressCells: count("#address-cells", 2), sizeCells: count("#size-cells", 1) };
}

function noMemory(why: string): BootError {
  return new BootError(`the device tree describes no usable memory: ${why}`, "give one with a /memory node");
}

function readCells(bytes: Uint8Array, at: number, count: number): bigint {
  return BigInt(`0x${Buffer.from(bytes.subarray(at, at + 4 * count)).toString("hex")}`);
}

function writeCells(value: bigint, count: number): Uint8Array {
  return Buffer.from(value.toString(16).padStart(8 * count, "0"), "hex");
}

function cells(...values: number[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value, index * 4);
  });
  return bytes;
}

function cells64(...values: bigint[]): Uint8Array {
  return Buffer.concat(values.map((value) => writeCells(value, 2)));
}

function padded(bytes: Uint8Array): Uint8Array {
  const whole = Buffer.alloc(align4(bytes.length));
  whole.set(bytes);
  return whole;
}

function align4(value: number): number {
  return (value + 3) & ~3;
}
