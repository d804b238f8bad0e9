/**
 * Physical memory: RAM in pages of 4096 bytes, made when first written.
 *
 * A page may have two contents: what memory holds, and what the caches hold where they differ from it. Which of
 * the two an access sees is decided in `caches.ts`; this file only stores them. Addresses are numbers, as no
 * machine here has more than 48 bits of them; words are 64 bits, little endian.
 */

export const PAGE_SIZE = 4096;
export const WORDS_PER_PAGE = 512;

/** 4096 bytes, to be seen as words, as halves of words, or as bytes at any alignment. */
export class Contents {
  readonly words: BigUint64Array;
  /** Two for each word, the lower half first: page tables are read through this, without a bigint a word. */
  readonly halves: Uint32Array;
  readonly bytes: DataView;

  constructor(from?: Contents) {
    const buffer = from ? (from.words.buffer as ArrayBuffer).slice(0) : new ArrayBuffer(PAGE_SIZE);
    this.words = new BigUint64Array(buffer);
    this.halves = new Uint32Array(buffer);
    this.bytes = new DataView(buffer);
  }

  /** True when every byte is 0. */
  isZero(): boolean {
    return this.halves.every((half) => half === 0);
  }
}

/** A page of RAM. */
export interface Page {
  /** What memory holds. */
  memory: Contents;
  /** What the caches hold, when they hold the page. */
  cached: Contents | undefined;
  /** Whether `cached` was written since it was filled from memory or cleaned to it. */
  dirty: boolean;
}

/** RAM from `base` on. */
export class PhysicalMemory {
  private readonly pages: (Page | undefined)[];

  readonly base: number;
  readonly pageCount: number;

  /**
   * @param base first byte of RAM, a multiple of 4096
   * @param pageCount number of pages
   * @throws RangeError when the base is not aligned
   */
  constructor(base: number, pageCount: number) {
    this.base = base;
    this.pageCount = pageCount;
    if (base % PAGE_SIZE !== 0) throw new RangeError(`RAM cannot start at ${hex(base)}: not a page boundary`);
    this.pages = new Array(pageCount);
  }

  /** First byte after RAM. */
  get end(): number {
    return this.base + this.pageCount * PAGE_SIZE;
  }

  /** True when `pa` lies in RAM. */
  has(pa: number): boolean {
    return pa >= this.base && pa < this.end;
  }

  /** Number of the page at `pa`, counted from the start of RAM. */
  indexOf(pa: number): number {
    return Math.floor((pa - this.base) / PAGE_SIZE);
  }

  /**
   * The page at `pa`, made if it was never touched.
   * @throws RangeError when `pa` is not in RAM
   */
  pageAt(pa: number): Page {
    if (!this.has(pa)) throw new RangeError(`no memory at ${hex(pa)}`);
    const index = this.indexOf(pa);
    let page = this.pages[index];
    if (page === undefined) {
      page = { memory: new Contents(), cached: undefined, dirty: false };
      this.pages[index] = page;
    }
    return page;
  }

  /** The page at `pa` if anything was ever written to it. */
  touched(pa: number): Page | undefined {
    return this.has(pa) ? this.pages[this.indexOf(pa)] : undefined;
  }
}

/** An address as people write it. */
export function hex(value: number | bigint): string {
  return `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`;
}

/** First byte of the page that contains `address`. */
export function pageOf(address: number): number {
  return address - (address % PAGE_SIZE);
}
