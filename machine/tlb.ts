/**
 * The TLBs of all CPUs, and when a change of the tables reaches them (Arm ARM D8.13 to D8.17).
 *
 * Three kinds of entries, each tagged with the VMID it was made under:
 * - a *leaf* of stage 2: input address to output address;
 * - a *table* of stage 2: where a walk may go on without reading the tables above;
 * - a *combined* entry: virtual address to output address, by both stages.
 *
 * Hardware may cache whatever a walk could read, and keep it as long as nothing invalidates it. This model is the
 * worst such hardware: each translation used is cached, and just before a valid descriptor changes, every CPU that ran
 * under the VMID since caches the old one (`store`). Entries go only by invalidation, or by `evict` when a test
 * wants. So a missing invalidation always leaves a stale entry, on whichever CPU it could be.
 *
 * A store to a table is sure to be seen by walkers only after a DSB; an invalidation issued before does not help against the
 * old descriptor. An invalidation takes effect at the next DSB that waits for it. One of combined entries that is
 * not separated by a DSB from an earlier one of leaves leaves those behind that could be made again from the leaves.
 */
import { hex, PAGE_SIZE } from "./physical.ts";
import {
  decodeLeaf,
  descriptorAddress,
  type Fault,
  isTable,
  isValid,
  type Leaf,
  levelSize,
  type Regime,
  type Step,
  walk,
} from "./stage2.ts";

/** What a CPU remembers of a translation. */
export interface Entry {
  readonly kind: "leaf" | "table" | "combined";
  readonly vmid: number;
  /** Input addresses it answers for. */
  readonly base: number;
  readonly size: number;
  /** The descriptors it was made from, root first. */
  readonly steps: readonly Step[];
  /** For leaves and combined entries. */
  readonly leaf: Leaf | undefined;
  /** For tables: level and address of the table. */
  readonly level: number;
  readonly table: number;
  /** For combined entries: stage 1 regime and virtual page, or undefined when only invalidation can find it. */
  readonly virtual: string | undefined;
}

/** TLB maintenance instructions, by their names in the core's imports. */
export type Operation = "ipas2e1is" | "vmalle1is" | "vmalle1" | "vmalls12e1is" | "alle1is";

interface Pending {
  readonly operation: Operation;
  readonly vmid: number;
  readonly ipa: number;
  /** Stores whose old descriptors walkers may still have seen when it was issued. */
  readonly unseen: ReadonlySet<number>;
}

/** Entries that a CPU keeps; the oldest go first. */
const CAPACITY = 96;

export class Tlbs {
  private readonly entries: Entry[][];
  private readonly pending: Pending[][];
  /** For each CPU, old descriptors by address: stores that no DSB has followed. The last set is of finished entries. */
  private readonly unseen: Map<number, Step>[];
  /** Regimes that a CPU ran under, by VMID, and the CPUs that did. */
  private readonly regimes = new Map<number, { regime: Regime; cpus: Set<number> }>();
  /** The descriptor that points to a table page, by address of the page. */
  private readonly parents = new Map<number, number>();

  private readonly cpuCount: number;
  private readonly read: (address: number) => Step;

  /**
   * @param cpuCount number of CPUs
   * @param read the descriptor at an address, as a walker sees it once all stores are done
   */
  constructor(cpuCount: number, read: (address: number) => Step) {
    this.cpuCount = cpuCount;
    this.read = read;
    this.entries = Array.from({ length: cpuCount }, () => []);
    this.pending = Array.from({ length: cpuCount }, () => []);
    this.unseen = Array.from({ length: cpuCount + 1 }, () => new Map());
  }

  /** CPU `cpu` runs under `regime` from now on: it may cache any of its translations. */
  run(cpu: number, regime: Regime): void {
    const known = this.regimes.get(regime.vmid);
    if (known && known.regime.root === regime.root && known.regime.startLevel === regime.startLevel) {
      known.cpus.add(cpu);
    } else {
      this.regimes.set(regime.vmid, { regime, cpus: new Set([cpu]) });
    }
  }

  /** Everything that CPU `cpu` has cached. */
  cachedBy(cpu: number): readonly Entry[] {
    return this.entries[cpu] as Entry[];
  }

  /**
   * Translates `ipa` as CPU `cpu` does, from its TLB or else by a walk that it then caches.
   * @param virtual stage 1 regime and virtual page of the access, for combined entries; undefined for none
   */
  translate(
    cpu: number,
    regime: Regime,
    ipa: number,
    virtual?: string,
  ): { readonly leaf: Leaf } | { readonly fault: Fault } {
    const mine = this.entries[cpu] as Entry[];
    let leaf: Entry | undefined;
    let table: Entry | undefined;
    for (const entry of mine) {
      if (entry.vmid !== regime.vmid) continue;
      if (entry.kind === "combined") {
        if (virtual !== undefined && entry.virtual === virtual) return { leaf: entry.leaf as Leaf };
      } else if (ipa >= entry.base && ipa < entry.base + entry.size) {
        if (entry.kind === "leaf") leaf = entry;
        else if (table === undefined || entry.level > table.level) table = entry;
      }
    }
    if (leaf === undefined) {
      const result = walk(regime, ipa, (address) => this.observe(address), table);
      this.cacheTables(cpu, regime, ipa, result.steps, "fault" in result ? 0 : 1);
      if ("fault" in result) return { fault: result.fault };
      leaf = leafEntry(regime.vmid, result.leaf, result.steps);
      this.insert(cpu, leaf);
    }
    if (virtual !== undefined) this.insert(cpu, { ...leaf, kind: "combined", virtual });
    return { leaf: leaf.leaf as Leaf };
  }

  /** Forgets the entries of CPU `cpu` for which `which` holds: a CPU may do so at any time. */
  evict(cpu: number, which: (entry: Entry) => boolean): void {
    this.entries[cpu] = (this.entries[cpu] as Entry[]).filter((entry) => !which(entry));
  }

  /**
   * CPU `cpu` is about to store a descriptor at `address`, where `old` is. Walkers may see the old one until a DSB, and
   * if it is valid, CPUs may have cached it.
   */
  store(cpu: number, address: number, old: Step, low: number, high: number): void {
    if (!isValid(old.low) && !isValid(low)) return;
    const unseen = this.unseen[cpu] as Map<number, Step>;
    if (!unseen.has(address)) unseen.set(address, old);
    if (isValid(old.low) && (old.low !== low || old.high !== high)) this.speculate(address, old);
    if (isValid(low)) this.parents.set(descriptorAddress(low, high), address);
  }

  /** A DSB by CPU `cpu`: its stores are seen by `domain`, and with `loads` its invalidations are complete there. */
  dsb(cpu: number, domain: "inner" | "local", loads: boolean): void {
    if (domain === "inner") {
      this.unseen[cpu]?.clear();
      this.unseen[this.cpuCount]?.clear();
    }
    if (!loads) return;
    const group = this.pending[cpu] as Pending[];
    const done = group.filter(({ operation }) => domain === "inner" || operation === "vmalle1");
    this.pending[cpu] = group.filter((one) => !done.includes(one));
    for (const one of done) if (one.operation.startsWith("vmalle1")) this.complete(cpu, one);
    for (const one of done) if (!one.operation.startsWith("vmalle1")) this.complete(cpu, one);
  }

  /** CPU `cpu` issues an invalidation. `ipa` counts for `ipas2e1is` alone. */
  issue(cpu: number, operation: Operation, vmid: number, ipa = 0): void {
    const unseen = new Set((this.unseen[cpu] as Map<number, Step>).keys());
    (this.pending[cpu] as Pending[]).push({ operation, vmid, ipa, unseen });
  }

  /** The core on CPU `cpu` has finished an entry. Its stores stay unseen until any later DSB. */
  settle(cpu: number): void {
    const mine = this.unseen[cpu] as Map<number, Step>;
    for (const [address, old] of mine) this.unseen[this.cpuCount]?.set(address, old);
    mine.clear();
  }

  /** Addresses of descriptors that were stored but that no DSB has made known to walkers. */
  unseenStores(): readonly number[] {
    return this.unseen.flatMap((stores) => [...stores.keys()]);
  }

  /** Invalidations that CPU `cpu` issued and did not wait for. */
  incomplete(cpu: number): readonly Operation[] {
    return (this.pending[cpu] as Pending[]).map(({ operation }) => operation);
  }

  /** The first entry of any CPU that the tables, as they are now, would not give. */
  findStale(): { readonly cpu: number; readonly entry: Entry } | undefined {
    for (const [cpu, mine] of this.entries.entries()) {
      for (const entry of mine) if (this.isStale(entry)) return { cpu, entry };
    }
    return undefined;
  }

  /** The first leaf or combined entry of any CPU, stale or not, that leads to the page at `pa` under a VMID for which `of` holds. */
  findReaching(
    pa: number,
    of: (vmid: number) => boolean,
  ): { readonly cpu: number; readonly entry: Entry } | undefined {
    for (const [cpu, mine] of this.entries.entries()) {
      for (const entry of mine) {
        const leaf = entry.leaf;
        if (leaf && of(entry.vmid) && pa < leaf.output + leaf.size && pa + PAGE_SIZE > leaf.output)
          return { cpu, entry };
      }
    }
    return undefined;
  }

  /** The first entry of any CPU that was made from the table page at `page`. */
  findThrough(page: number): { readonly cpu: number; readonly entry: Entry } | undefined {
    for (const [cpu, mine] of this.entries.entries()) {
      for (const entry of mine) {
        if (
          entry.table === page ||
          entry.steps.some(({ address }) => address >= page && address < page + PAGE_SIZE)
        )
          return { cpu, entry };
      }
    }
    return undefined;
  }

  private isStale(entry: Entry): boolean {
    return entry.steps.some(({ address, low, high }) => {
      const now = this.read(address);
      return now.low !== low || now.high !== high;
    });
  }

  /** The descriptor at `address` as a walker may see it: the old one while a store of it is not done. */
  private observe(address: number): Step {
    for (const stores of this.unseen) {
      const old = stores.get(address);
      if (old && isValid(old.low)) return old;
    }
    return this.read(address);
  }

  private insert(cpu: number, entry: Entry): void {
    const mine = this.entries[cpu] as Entry[];
    for (const other of mine) if (isSame(entry, other)) return;
    mine.push(entry);
    if (mine.length > CAPACITY) mine.shift();
  }

  /** Caches the tables that a walk of `ipa` went through; its last `omit` steps are no tables. */
  private cacheTables(cpu: number, regime: Regime, ipa: number, steps: readonly Step[], omit: number): void {
    for (let n = 1; n <= steps.length - omit; n++) {
      const last = steps[n - 1] as Step;
      const level = regime.startLevel + n - 1;
      if (!isValid(last.low) || !isTable(last.low, level)) break;
      this.insert(cpu, tableEntry(regime.vmid, ipa, level, steps.slice(0, n)));
    }
  }

  /** Every CPU that ran under the VMID whose tables the descriptor `old` at `address` is part of caches it. */
  private speculate(address: number, old: Step): void {
    const path = this.pathTo(address);
    if (path === undefined) return;
    const { regime, cpus, level, ipa } = path;
    const steps = [...path.steps, old];
    const made: Entry[] = [];
    if (isTable(old.low, level)) {
      made.push(tableEntry(regime.vmid, ipa, level, steps));
      for (const below of this.leavesBelow(regime, old, level, ipa, steps)) made.push(below);
    } else if (level > 0) {
      const leaf = decodeLeaf(old.low, old.high, level, ipa);
      made.push(leafEntry(regime.vmid, leaf, steps));
    }
    for (const cpu of cpus) {
      for (const entry of made) {
        this.insert(cpu, entry);
        if (entry.kind === "leaf") this.insert(cpu, { ...entry, kind: "combined" });
      }
    }
  }

  /** The first and last leaf in the table that `descriptor` of `level` points to. */
  private leavesBelow(regime: Regime, descriptor: Step, level: number, ipa: number, steps: Step[]): Entry[] {
    const table = descriptorAddress(descriptor.low, descriptor.high);
    const found: Entry[] = [];
    for (let index = 0; index < 512; index++) {
      const step = this.read(table + index * 8);
      if (!isValid(step.low) || isTable(step.low, level + 1)) continue;
      const at = ipa - (ipa % levelSize(level)) + index * levelSize(level + 1);
      const entry = leafEntry(regime.vmid, decodeLeaf(step.low, step.high, level + 1, at), [...steps, step]);
      found[found.length === 0 ? 0 : 1] = entry;
    }
    return found;
  }

  /** How a walk comes to the descriptor at `address`, or undefined when it is in no table of a regime that ever ran. */
  private pathTo(
    address: number,
  ): { regime: Regime; cpus: Set<number>; level: number; ipa: number; steps: Step[] } | undefined {
    const chain: number[] = [address];
    for (let depth = 0; depth < 4; depth++) {
      const at = chain[0] as number;
      for (const { regime, cpus } of this.regimes.values()) {
        if (at < regime.root || at >= regime.root + regime.rootTables * PAGE_SIZE) continue;
        let ipa = ((at - regime.root) / 8) * levelSize(regime.startLevel);
        const steps: Step[] = [];
        for (let n = 1; n < chain.length; n++) {
          const step = this.read(chain[n - 1] as number);
          const child = chain[n] as number;
          const level = regime.startLevel + n;
          if (!isValid(step.low) || descriptorAddress(step.low, step.high) !== child - (child % PAGE_SIZE))
            return;
          ipa += ((child % PAGE_SIZE) / 8) * levelSize(level);
          steps.push(step);
        }
        return { regime, cpus, level: regime.startLevel + chain.length - 1, ipa, steps };
      }
      const parent = this.parents.get(at - (at % PAGE_SIZE));
      if (parent === undefined) return undefined;
      chain.unshift(parent);
    }
    return undefined;
  }

  private complete(issuer: number, { operation, vmid, ipa, unseen }: Pending): void {
    const everywhere = operation.endsWith("is");
    for (let cpu = 0; cpu < this.cpuCount; cpu++) {
      if (!everywhere && cpu !== issuer) continue;
      const mine = this.entries[cpu] as Entry[];
      this.entries[cpu] = mine.filter((entry) => {
        if (!isTarget(entry, operation, vmid, ipa)) return true;
        if (entry.steps.some(({ address }) => unseen.has(address)) && this.isStale(entry)) return true;
        if (entry.kind !== "combined" || !operation.startsWith("vmalle1")) return false;
        return mine.some((leaf) => leaf.kind === "leaf" && leaf.leaf === entry.leaf && this.isStale(leaf));
      });
    }
  }
}

/** Whether two entries answer for the same. */
function isSame(a: Entry, b: Entry): boolean {
  return (
    a.kind === b.kind &&
    a.base === b.base &&
    a.vmid === b.vmid &&
    a.size === b.size &&
    a.virtual === b.virtual
  );
}

/** Whether an invalidation reaches an entry. */
function isTarget(entry: Entry, operation: Operation, vmid: number, ipa: number): boolean {
  if (operation === "alle1is") return true;
  if (entry.vmid !== vmid) return false;
  switch (operation) {
    case "vmalls12e1is":
      return true;
    case "vmalle1is":
    case "vmalle1":
      return entry.kind === "combined";
    case "ipas2e1is":
      return entry.kind !== "combined" && ipa >= entry.base && ipa < entry.base + entry.size;
  }
}

function leafEntry(vmid: number, leaf: Leaf, steps: readonly Step[]): Entry {
  const { base, size, level } = leaf;
  return { kind: "leaf", vmid, base, size, steps, leaf, level, table: -1, virtual: undefined };
}

/** An entry for the table that the last of `steps`, a descriptor of `level` for `ipa`, points to. */
function tableEntry(vmid: number, ipa: number, level: number, steps: readonly Step[]): Entry {
  const last = steps.at(-1) as Step;
  const size = levelSize(level);
  return {
    kind: "table",
    vmid,
    base: ipa - (ipa % size),
    size,
    steps,
    leaf: undefined,
    level: level + 1,
    table: descriptorAddress(last.low, last.high),
    virtual: undefined,
  };
}

/** An entry in words, for messages. */
export function describeEntry({ kind, vmid, base, leaf, table, virtual }: Entry): string {
  const to = leaf ? hex(leaf.output) : `the table at ${hex(table)}`;
  const by = virtual === undefined ? "" : ` by ${virtual}`;
  return `${kind} entry of VMID ${vmid}: ${hex(base)} to ${to}${by}`;
}
