/**
 * Caches over physical memory, as far as software can tell (Arm ARM D7): an access with cacheable attributes sees what
 * the caches hold, a non-cacheable one sees memory behind them, and the two agree only after maintenance.
 *
 * A cacheable write makes the page's cached copy dirty; it reaches memory when it is cleaned, or evicted at a moment of the
 * adversary's choice. All CPUs are in one coherent domain, so there is one cached copy. Lines are as large as
 * pages: the core never maintains less.
 */
import { Contents, PAGE_SIZE, type Page, type PhysicalMemory, pageOf } from "./physical.ts";

export class Caches {
  readonly memory: PhysicalMemory;

  constructor(memory: PhysicalMemory) {
    this.memory = memory;
  }

  /** The contents that an access with these attributes reads at `pa`. */
  reader(pa: number, cacheable: boolean): Contents {
    const page = this.memory.pageAt(pa);
    return cacheable ? (page.cached ?? page.memory) : page.memory;
  }

  /** The contents that an access with these attributes writes at `pa`. */
  writer(pa: number, cacheable: boolean): Contents {
    const page = this.memory.pageAt(pa);
    if (!cacheable) return page.memory;
    page.cached ??= new Contents(page.memory);
    page.dirty = true;
    return page.cached;
  }

  /** Reads `size` bytes (1, 2, 4 or 8) at `pa`, which may cross into the next page. */
  read(pa: number, size: number, cacheable = true): bigint {
    const offset = pa % PAGE_SIZE;
    if (size === 8 && offset % 8 === 0) return this.reader(pa, cacheable).words[offset / 8] as bigint;
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) {
      const byte = this.reader(pa + i, cacheable).bytes.getUint8((pa + i) % PAGE_SIZE);
      value = (value << 8n) | BigInt(byte);
    }
    return value;
  }

  /** Writes the `size` low bytes of `value` (1, 2, 4 or 8) at `pa`, which may cross into the next page. */
  write(pa: number, size: number, value: bigint, cacheable = true): void {
    const offset = pa % PAGE_SIZE;
    if (size === 8 && offset % 8 === 0) {
      this.writer(pa, cacheable).words[offset / 8] = value;
      return;
    }
    for (let i = 0; i < size; i++) {
      const byte = Number((value >> BigInt(8 * i)) & 0xffn);
      this.writer(pa + i, cacheable).bytes.setUint8((pa + i) % PAGE_SIZE, byte);
    }
  }

  /** Fills the page at `pa` with zeroes, by cacheable writes. */
  zero(pa: number): void {
    const page = this.memory.pageAt(pa);
    page.cached = new Contents();
    page.dirty = true;
  }

  /** Cleans and invalidates the page at `pa` to the point of coherency. */
  clean(pa: number): void {
    const page = this.memory.touched(pa);
    if (page) writeBack(page);
  }

  /** Fills the caches with the page at `pa`, as a CPU may do at any time for any page it can reach. */
  allocate(pa: number): void {
    const page = this.memory.pageAt(pa);
    page.cached ??= new Contents(page.memory);
  }

  /** Drops the page at `pa` from the caches, writing it back if it is dirty: as a CPU may do at any time. */
  evict(pa: number): void {
    this.clean(pa);
  }

  /** True when nothing of the page at `pa` waits in the caches, so that every access sees the same, whatever its attributes. */
  isClean(pa: number): boolean {
    const page = this.memory.touched(pageOf(pa));
    if (page?.cached === undefined) return true;
    return !page.dirty && page.cached.words.every((word, i) => word === page.memory.words[i]);
  }

  /** True when the page at `pa` reads as zeroes both in the caches and behind them. */
  isZero(pa: number): boolean {
    const page = this.memory.touched(pa);
    return page === undefined || (page.memory.isZero() && (page.cached?.isZero() ?? true));
  }
}

function writeBack(page: Page): void {
  if (page.cached !== undefined && page.dirty) page.memory = page.cached;
  page.cached = undefined;
  page.dirty = false;
}
