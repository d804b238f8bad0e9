import { BootError } from "./error.ts";

/** BTF kinds (Documentation/bpf/btf.rst). */
const Kind = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

/** Bytes that follow a type's twelve-byte record: a fixed part, and a part for each of its `vlen` members. */
const trailer: ReadonlyMap<number, { fixed: number; each: number }> = new Map([
  [Kind.INT, { fixed: 4, each: 0 }],
  [Kind.PTR, { fixed: 0, each: 0 }],
  [Kind.ARRAY, { fixed: 12, each: 0 }],
  [Kind.STRUCT, { fixed: 0, each: 12 }],
  [Kind.UNION, { fixed: 0, each: 12 }],
  [Kind.ENUM, { fixed: 0, each: 8 }],
  [Kind.FWD, { fixed: 0, each: 0 }],
  [Kind.TYPEDEF, { fixed: 0, each: 0 }],
  [Kind.VOLATILE, { fixed: 0, each: 0 }],
  [Kind.CONST, { fixed: 0, each: 0 }],
  [Kind.RESTRICT, { fixed: 0, each: 0 }],
  [Kind.FUNC, { fixed: 0, each: 0 }],
  [Kind.FUNC_PROTO, { fixed: 0, each: 8 }],
  [Kind.VAR, { fixed: 4, each: 0 }],
  [Kind.DATASEC, { fixed: 0, each: 12 }],
  [Kind.FLOAT, { fixed: 0, each: 0 }],
  [Kind.DECL_TAG, { fixed: 4, each: 0 }],
  [Kind.TYPE_TAG, { fixed: 0, each: 0 }],
  [Kind.ENUM64, { fixed: 0, each: 12 }],
]);

const btfMagic = 0xeb9f;
const headerLength = 24;
const typeRecord = 12;
const pointerSize = 8;

/** Structs and arrays nest less deep than this, unless the BTF is damaged and one contains itself. */
const deepest = 32;

interface Member {
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  readonly bitfieldSize: number;
}

/**
 * The type information of a kernel. Queries name types and members as C does; every query for something that is not there throws a
 * BootError that names it.
 */
export class Btf {
  readonly #name: string;
  readonly #view: DataView;
  readonly #strings: Uint8Array;
  /** Offset of each type's record; type 0 is void. */
  readonly #types: number[] = [0];
  readonly #structs = new Map<string, number>();
  readonly #enums = new Map<string, number>();

  /**
   * @param blob exactly one BTF blob, see findBtf
   * @param name what it was read from, for messages
   */
  constructor(blob: Uint8Array, name: string) {
    this.#name = name;
    const layout = readHeader(blob);
    if (layout === undefined)
      throw new BootError(`kernel ${name} has damaged BTF`, "use another kernel build");
    this.#strings = blob.subarray(layout.stringsStart, layout.end);
    this.#view = new DataView(blob.buffer, blob.byteOffset + layout.typesStart, layout.typesLength);
    let at = 0;
    while (at < layout.typesLength) {
      const rest = trailer.get(this.#kindAt(at));
      if (rest === undefined)
        throw this.#unsuitable(`its BTF has a type of unknown kind ${this.#kindAt(at)}`);
      this.#index(at, this.#types.length);
      this.#types.push(at);
      at += typeRecord + rest.fixed + rest.each * (this.#u32(at + 4) & 0xffff);
    }
    if (at !== layout.typesLength) throw this.#damaged();
  }

  /** Names of every struct and union. */
  structNames(): Iterable<string> {
    return this.#structs.keys();
  }

  /** Names of every named enum. */
  enumNames(): Iterable<string> {
    return this.#enums.keys();
  }

  /**
   * Bytes from the start of a struct to a member: `offsetOf("kvm_vcpu", "arch.ctxt.regs")`. The path goes through anonymous
   * structs and unions as C does, and may index arrays: `dbg_bcr[3]`.
   */
  offsetOf(struct: string, path: string): number {
    return this.#locate(struct, path).offset;
  }

  /** Bytes of a struct, or of a member when a path is given. */
  sizeOf(struct: string, path?: string): number {
    if (path === undefined) return this.#u32(this.#record(this.#structType(struct)) + 8);
    return this.#sizeOfType(this.#locate(struct, path).type);
  }

  /** The value of an enumerator of a named enum. */
  enumValue(enumeration: string, enumerator: string): number {
    const type = this.#enums.get(enumeration);
    if (type === undefined) throw this.#missing(`enum ${enumeration}`);
    const value = this.#enumerators(type).get(enumerator);
    if (value === undefined) throw this.#missing(`enumerator ${enumerator} in enum ${enumeration}`);
    return value;
  }

  /** The value of an enumerator, whichever enum (named or not) holds it. */
  constant(enumerator: string): number {
    for (let type = 1; type < this.#types.length; type++) {
      const kind = this.#kind(type);
      if (kind !== Kind.ENUM && kind !== Kind.ENUM64) continue;
      const value = this.#enumerators(type).get(enumerator);
      if (value !== undefined) return value;
    }
    throw this.#missing(`enumerator ${enumerator}`);
  }

  #locate(struct: string, path: string): { offset: number; type: number } {
    let type = this.#structType(struct);
    let offset = 0;
    let walked = `struct ${struct}`;
    for (const step of path.split(".")) {
      const parts = /^(\w+)((?:\[\d+\])*)$/.exec(step);
      if (!parts) throw new TypeError(`not a member path: ${path}`);
      const [, name = "", indices = ""] = parts;
      const member = this.#findMember(type, name);
      if (member === undefined) throw this.#missing(`member ${name} in ${walked}`);
      if (member.bitfieldSize !== 0 || member.bitOffset % 8 !== 0) {
        throw this.#unsuitable(`member ${name} in ${walked} is a bit-field`);
      }
      offset += member.bitOffset / 8;
      type = member.type;
      for (const [, index] of indices.matchAll(/\[(\d+)\]/g)) {
        const array = this.#record(this.#resolve(type));
        if (this.#kindAt(array) !== Kind.ARRAY)
          throw this.#unsuitable(`member ${name} in ${walked} is no array`);
        const count = this.#u32(array + typeRecord + 8);
        if (Number(index) >= count) {
          throw this.#unsuitable(`member ${name} in ${walked} has ${count} elements, not [${index}]`);
        }
        type = this.#u32(array + typeRecord);
        offset += Number(index) * this.#sizeOfType(type);
      }
      walked += `.${step}`;
    }
    return { offset, type };
  }

  /** The member of this name of a struct or union, offset from that type's start, looking into anonymous members. */
  #findMember(structType: number, name: string, depth = 0): Member | undefined {
    if (depth > deepest) throw this.#damaged();
    const type = this.#resolve(structType);
    const kind = this.#kind(type);
    if (kind !== Kind.STRUCT && kind !== Kind.UNION) return undefined;
    for (const member of this.#members(type)) {
      if (member.name === name) return member;
      if (member.name !== "") continue;
      const inner = this.#findMember(member.type, name, depth + 1);
      if (inner) return { ...inner, bitOffset: member.bitOffset + inner.bitOffset };
    }
    return undefined;
  }

  #members(type: number): Member[] {
    const record = this.#record(type);
    const info = this.#u32(record + 4);
    const hasBitfields = info >>> 31 === 1;
    return Array.from({ length: info & 0xffff }, (_, index) => {
      const at = record + typeRecord + index * 12;
      const offset = this.#u32(at + 8);
      return {
        name: this.#string(this.#u32(at)),
        type: this.#u32(at + 4),
        bitOffset: hasBitfields ? offset & 0xffffff : offset,
        bitfieldSize: hasBitfields ? offset >>> 24 : 0,
      };
    });
  }

  #enumerators(type: number): Map<string, number> {
    const record = this.#record(type);
    const info = this.#u32(record + 4);
    const signed = info >>> 31 === 1;
    const wide = this.#kindAt(record) === Kind.ENUM64;
    const values = new Map<string, number>();
    for (let index = 0; index < (info & 0xffff); index++) {
      const at = record + typeRecord + index * (wide ? 12 : 8);
      const low = signed && !wide ? this.#s32(at + 4) : this.#u32(at + 4);
      const high = wide ? (signed ? this.#s32(at + 8) : this.#u32(at + 8)) : 0;
      values.set(this.#string(this.#u32(at)), high * 2 ** 32 + low);
    }
    return values;
  }

  #sizeOfType(reference: number, depth = 0): number {
    if (depth > deepest) throw this.#damaged();
    const type = this.#resolve(reference);
    const record = this.#record(type);
    switch (this.#kindAt(record)) {
      case Kind.PTR:
        return pointerSize;
      case Kind.ARRAY:
        return (
          this.#sizeOfType(this.#u32(record + typeRecord), depth + 1) * this.#u32(record + typeRecord + 8)
        );
      case Kind.INT:
      case Kind.STRUCT:
      case Kind.UNION:
      case Kind.ENUM:
      case Kind.ENUM64:
      case Kind.FLOAT:
        return this.#u32(record + 8);
      default:
        throw this.#unsuitable(`type ${type} has no size`);
    }
  }

  /** The type behind typedefs and qualifiers. */
  #resolve(reference: number): number {
    let type = reference;
    // A chain longer than the number of types would be a loop.
    for (let steps = 0; steps < this.#types.length; steps++) {
      switch (this.#kind(type)) {
        case Kind.TYPEDEF:
        case Kind.VOLATILE:
        case Kind.CONST:
        case Kind.RESTRICT:
        case Kind.TYPE_TAG:
          type = this.#u32(this.#record(type) + 8);
          break;
        default:
          return type;
      }
    }
    throw this.#unsuitable(`type ${reference} refers to itself`);
  }

  #structType(name: string): number {
    const type = this.#structs.get(name);
    if (type === undefined) throw this.#missing(`struct ${name}`);
    return type;
  }

  #index(record: number, type: number): void {
    const name = this.#string(this.#u32(record));
    if (name === "") return;
    const kind = this.#kindAt(record);
    if (kind === Kind.STRUCT || kind === Kind.UNION) {
      if (!this.#structs.has(name)) this.#structs.set(name, type);
    } else if (kind === Kind.ENUM || kind === Kind.ENUM64) {
      if (!this.#enums.has(name)) this.#enums.set(name, type);
    }
  }

  #kind(type: number): number {
    return type === 0 ? 0 : this.#kindAt(this.#record(type));
  }

  #kindAt(record: number): number {
    return (this.#u32(record + 4) >>> 24) & 0x1f;
  }

  #record(type: number): number {
    const record = this.#types[type];
    if (record === undefined || type === 0) throw this.#unsuitable(`its BTF refers to type ${type}`);
    return record;
  }

  #string(offset: number): string {
    const end = this.#strings.indexOf(0, offset);
    return Buffer.from(this.#strings.subarray(offset, end < 0 ? undefined : end)).toString("latin1");
  }

  /** A word of the type section. */
  #u32(at: number): number {
    if (at + 4 > this.#view.byteLength) throw this.#damaged();
    return this.#view.getUint32(at, true);
  }

  #s32(at: number): number {
    return this.#u32(at) | 0;
  }

  #damaged(): BootError {
    return this.#unsuitable("its BTF is damaged");
  }

  #missing(what: string): BootError {
    return this.#unsuitable(`its BTF has no ${what}`);
  }

  #unsuitable(why: string): BootError {
    return new BootError(
      `kernel ${this.#name} is unsuitable: ${why}`,
      "use Linux 6.12, or run with --core off",
    );
  }
}

/**
 * Finds the BTF blob of a kernel in its uncompressed Image, where it lies as it is. The magic is only two bytes, so that a candidate
 * counts only when its whole header is consistent; the largest one is the kernel's.
 * @throws BootError when there is none (the kernel was built without CONFIG_DEBUG_INFO_BTF)
 */
export function findBtf(image: Uint8Array, name: string): Uint8Array {
  const bytes = Buffer.from(image.buffer, image.byteOffset, image.byteLength);
  // Magic, version 1, no flags, header length 24.
  const start = Buffer.from([0x9f, 0xeb, 1, 0, headerLength, 0, 0, 0]);
  let best: Uint8Array | undefined;
  for (let at = bytes.indexOf(start); at >= 0; at = bytes.indexOf(start, at + 1)) {
    const candidate = image.subarray(at);
    const layout = readHeader(candidate);
    if (layout && layout.end > (best?.length ?? 0)) best = candidate.subarray(0, layout.end);
  }
  if (best === undefined) {
    throw new BootError(
      `kernel ${name} has no BTF, from which the layout of KVM's structures is read`,
      "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian's are), or run with --core off",
    );
  }
  return best;
}

/** Where types and strings of a blob lie, or undefined when its header is not that of a BTF blob that fits into the bytes. */
function readHeader(
  blob: Uint8Array,
): { typesStart: number; typesLength: number; stringsStart: number; end: number } | undefined {
  if (blob.length < headerLength) return undefined;
  const header = new DataView(blob.buffer, blob.byteOffset, headerLength);
  if (header.getUint16(0, true) !== btfMagic || header.getUint8(2) !== 1) return undefined;
  const base = header.getUint32(4, true);
  const typesStart = base + header.getUint32(8, true);
  const typesLength = header.getUint32(12, true);
  const stringsStart = base + header.getUint32(16, true);
  const end = stringsStart + header.getUint32(20, true);
  const consistent =
    base === headerLength &&
    typesLength > 0 &&
    typesLength % 4 === 0 &&
    typesStart + typesLength <= stringsStart &&
    end > stringsStart &&
    end <= blob.length &&
    blob[stringsStart] === 0 &&
    blob[end - 1] === 0;
  return consistent ? { typesStart, typesLength, stringsStart, end } : undefined;
}
