/**
 * What always holds (DESIGN, "State, and what always holds"): each rule a function with a name, over the core's state
 * and the machine's.
 *
 * There are two kinds. *States* hold whenever no CPU is in the core: they look at all tables, owners, TLBs and records, read
 * by the architecture's rules and not by the core's code. *Moments* hold at each single operation on hardware, also in
 * the middle of an entry, when other CPUs already see its effect. `Invariants` checks both for a machine.
 */

import { type Structure, VmState } from "./core.ts";
import type { Cpu } from "./cpu.ts";
import type { Machine, Watch } from "./machine.ts";
import { hasFeature } from "./models.ts";
import { hex, PAGE_SIZE, pageOf } from "./physical.ts";
import { Violation } from "./primitives.ts";
import { numberOf, registerNames } from "./registers.ts";
import {
  decodeLeaf,
  decodeRegime,
  descriptorAddress,
  isTable,
  isValid,
  type Leaf,
  levelSize,
  memoryType,
  type Regime,
  type Step,
  walk,
} from "./stage2.ts";
import { describeEntry } from "./tlb.ts";

const BLOCK_SIZE = levelSize(2);
const OWNER_HOST = 0;
const OWNER_CORE = 1;

/** HCR_EL2 bits that a guest always runs with, and bits that nobody ever runs with. */
const HCR_VM = 1n << 0n;
const HCR_TSC = 1n << 19n;
const HCR_RW = 1n << 31n;
const HCR_IRQS = (1n << 3n) | (1n << 4n) | (1n << 5n);
const HCR_TGE = 1n << 27n;
const HCR_HCD = 1n << 29n;
const HCR_CD = 1n << 32n;
const HCR_ID = 1n << 33n;
const HCR_E2H = 1n << 34n;
const HCR_NV = (1n << 42n) | (1n << 43n) | (1n << 45n);
const HCR_FWB = 1n << 46n;
/** What a guest could leave behind for others, or reach of theirs: set/way maintenance, implementation defined registers... */
const HCR_SHARED = 0x18_0072_0602n;
/** Memory types that are the core's to say: DC, MIOCNCE, DCT. */
const HCR_TYPES = (1n << 12n) | (1n << 38n) | (1n << 57n);
const HCRX_GUEST = (1n << 11n) | (1n << 14n);
const MDCR_TDA = 1n << 9n;
/** MDCR_EL2: the guest's profiling and trace buffers stay off; HPME stays off. */
const MDCR_GUEST = (1n << 14n) | (1n << 19n) | (1n << 11n) | (1n << 10n);
const MDCR_BUFFERS = (3n << 12n) | (3n << 24n);

/** A VM of the core that is not free. */
interface LiveVm {
  readonly slot: number;
  readonly handle: number;
  readonly isPrivate: boolean;
  readonly record: Structure;
  readonly regime: Regime;
}

/** What all tables of the core map, seen as hardware sees them. */
interface Survey {
  readonly vms: readonly LiveVm[];
  /** For each page of RAM: its owner, and its count or frame. */
  readonly owner: Uint32Array;
  readonly payload: Float64Array;
  /**
   * Pages of RAM but those that are the host's, in no use and not in a VM's tables, and those of the core in its
   * memory. What the rules say about pages is plainly true of all others, save that the core's are unmapped.
   */
  readonly pages: readonly number[];
  /** For each page of RAM that the core keeps structures of the host in: how many. */
  readonly pins: ReadonlyMap<number, number>;
  /** For each page of RAM: whether the host maps it. */
  readonly byHost: Uint8Array;
  /** For each page of RAM: how many leaves of ordinary VMs map it, and how many did that are retained. */
  readonly lent: Uint32Array;
  readonly retained: Uint32Array;
  /** For each page of RAM: how many leaves of private VMs map it. */
  readonly owned: Uint32Array;
  /** Leaves of VMs. */
  readonly leaves: readonly { readonly vm: LiveVm; readonly leaf: Leaf }[];
  /** Leaves of the host that are wrong in themselves: no identity, or RAM and devices mixed up. */
  readonly oddHostLeaves: readonly Leaf[];
  /** Retained entries where there must be none: address and descriptor. */
  readonly oddRetained: readonly Step[];
  /** How often each table page is linked, by a valid entry or by a retained one. */
  readonly tables: ReadonlyMap<number, number>;
}

type State = (machine: Machine, survey: Survey) => string | undefined;

/** Rules about tables and owners, which need a survey. */
export const states = {
  /** 1. A page of the core is mapped by nobody. */
  corePagesAreUnmapped: (machine, { owner, byHost, lent, owned }) => {
    for (let pa = machine.coreBase; pa < machine.coreEnd; pa += PAGE_SIZE) {
      const n = machine.memory.indexOf(pa);
      if (owner[n] !== OWNER_CORE) return `${hex(pa)} is owned by ${owner[n]}`;
      if ((byHost[n] || lent[n] || owned[n]) !== 0) return `${hex(pa)} is mapped`;
    }
    return undefined;
  },

  /** 1. Nothing but the core's memory is the core's. */
  coreOwnsItsMemory: (machine, survey) =>
    findPage(machine, survey, (n) => survey.owner[n] === OWNER_CORE, "is not in the core's memory"),

  /** 2. The host maps only pages of its own, and devices. */
  hostMapsItsOwn: (machine, survey) => {
    const wrong = (n: number) => survey.byHost[n] !== 0 && survey.owner[n] !== OWNER_HOST;
    return findPage(machine, survey, wrong, "is mapped by the host");
  },

  /** 2. The host's map is the identity, of RAM as memory and of everything else as device. */
  hostMapIsIdentity: (_machine, { oddHostLeaves }) => {
    const odd = oddHostLeaves[0];
    return odd && `the host maps ${hex(odd.base)} to ${hex(odd.output)}, attributes ${odd.memAttr}`;
  },

  /** 3. A private VM maps only pages that it owns, each at the frame that the owner table says, and each once. */
  privateVmMapsItsOwn: (machine, survey) => {
    const { leaves, owner, payload, owned } = survey;
    for (const { vm, leaf } of leaves) {
      if (!vm.isPrivate) continue;
      for (let at = 0; at < leaf.size; at += PAGE_SIZE) {
        const pa = leaf.output + at;
        const n = machine.memory.indexOf(pa);
        const frame = (leaf.base + at) / PAGE_SIZE;
        if (machine.memory.has(pa) && owner[n] === vm.handle && payload[n] === frame) continue;
        const of = machine.memory.has(pa)
          ? `owned by ${owner[n]} for frame ${payload[n]}`
          : "which is no RAM";
        return `VM ${vm.handle} maps ${hex(pa)} at frame ${hex(frame)}, ${of}`;
      }
    }
    return findPage(machine, survey, (n) => (owned[n] ?? 0) > 1, "is mapped twice by private VMs");
  },

  /** 3. An ordinary VM maps only pages of the host. */
  ordinaryVmMapsTheHosts: (machine, survey) => {
    const { leaves, lent, owner } = survey;
    const outside = leaves.find(({ vm, leaf }) => !vm.isPrivate && !machine.memory.has(leaf.output));
    if (outside) return `VM ${outside.vm.handle} maps ${hex(outside.leaf.output)}, which is no RAM`;
    const wrong = (n: number) => lent[n] !== 0 && owner[n] !== OWNER_HOST;
    return findPage(machine, survey, wrong, "is mapped by an ordinary VM");
  },

  /**
   * 3. The count of each page of the host is exactly its mappings in ordinary VMs and its pins. Mappings that were taken back
   * by the table still count while their entries are retained.
   */
  usesAreCounted: (machine, survey) => {
    const { owner, payload, lent, retained, pins } = survey;
    const uses = (n: number) => (lent[n] ?? 0) + (retained[n] ?? 0) + (pins.get(n) ?? 0);
    // In the middle of an entry the core may use one structure more, for a moment.
    const more = machine.isNested ? 1 : 0;
    const wrong = (n: number) => {
      const extra = (payload[n] ?? 0) - uses(n);
      return owner[n] === OWNER_HOST && (extra < 0 || extra > more);
    };
    const counts = (n: number) =>
      `has ${lent[n]} mappings, ${retained[n]} retained, ${pins.get(n) ?? 0} pins`;
    return findPage(machine, survey, wrong, counts);
  },

  /** Entries that are invalid and not zero are retained ones: of ordinary VMs alone, above level 3. */
  onlyOrdinaryVmsRetain: (_machine, { oddRetained }) => {
    const odd = oddRetained[0];
    return odd && `the entry at ${hex(odd.address)} is invalid and not zero`;
  },

  /** 3. Memory of private VMs is ordinary memory, whatever HCR_EL2.FWB makes of its attributes. */
  ownMemoryIsNormal: (machine, { leaves }) => {
    const abnormal = (forced: boolean, record?: Structure) =>
      leaves.find(
        ({ vm, leaf }) =>
          vm.isPrivate &&
          (record === undefined || vm.record === record) &&
          memoryType(leaf.memAttr, forced) !== "normal",
      );
    const bad = abnormal(false);
    if (bad) return `VM ${bad.vm.handle} maps ${hex(bad.leaf.base)} with attributes ${bad.leaf.memAttr}`;
    for (const cpu of machine.cpus) {
      if (cpu.context !== "guest" || (cpu.registers.get("hcr_el2") & HCR_FWB) === 0n) continue;
      const forced = abnormal(true, runningVm(machine, cpu));
      if (forced) return `VM ${forced.vm.handle} runs with FWB, which makes ${forced.leaf.memAttr} reserved`;
    }
    return undefined;
  },

  /** A page that a VM owns has a table of level 3 in the host's map: no block of the host's ever covers it again. */
  donatedPagesHaveTables: (machine, { pages, owner }) => {
    const regime = hostRegime(machine);
    const blocks = new Set<number>();
    for (const n of pages) {
      const pa = machine.memory.base + n * PAGE_SIZE;
      if ((owner[n] ?? 0) <= OWNER_CORE || blocks.has(Math.floor(pa / BLOCK_SIZE))) continue;
      blocks.add(Math.floor(pa / BLOCK_SIZE));
      const { steps } = walk(regime, pa, (at) => machine.descriptor(at));
      if (steps.length < 4 - regime.startLevel)
        return `${hex(pa)} is donated, and the host has no table of level 3 there`;
    }
    return undefined;
  },

  /** 4. Tables are trees of pool pages. */
  tablesAreTrees: (machine, { tables }) => {
    const { base, end } = pool(machine);
    for (const [page, links] of tables) {
      if (page < base || page >= end) return `${hex(page)} is linked as a table and not of the pool`;
      if (links > 1) return `table ${hex(page)} is linked ${links} times`;
    }
    return undefined;
  },

  /** 4. Every page of the pool is in use exactly once or free exactly once; the free ones are zero. */
  poolIsAccounted: (machine, { tables }) => {
    const { base, end, pages } = pool(machine);
    const { coreState } = machine.core;
    const free = new Set<number>();
    for (let page = coreState.number("poolHead"); page !== 0; ) {
      if (page < base || page >= end || page % PAGE_SIZE !== 0)
        return `${hex(page)} is in the list of free tables`;
      if (free.has(page)) return `table ${hex(page)} is free twice`;
      if (tables.has(page)) return `table ${hex(page)} is free and in use`;
      free.add(page);
      const { halves } = machine.memory.pageAt(page).memory;
      if (machine.dirtyTables.has(page) && !restIsZero(halves)) return `free table ${hex(page)} is not zero`;
      page = descriptorAddress(halves[0] as number, halves[1] as number);
    }
    machine.dirtyTables.clear();
    if (free.size !== coreState.number("poolFree"))
      return `${free.size} tables are free, the core counts ${coreState.number("poolFree")}`;
    if (free.size + tables.size !== pages)
      return `${free.size} free and ${tables.size} used of ${pages} tables`;
    return undefined;
  },

  /** The tables of a free VM slot are empty. */
  freeSlotsAreEmpty: (machine) => {
    for (let slot = 1; slot < machine.core.coreState.number("vmSlots"); slot++) {
      if (machine.core.vm(slot).number("state") !== VmState.FREE) continue;
      const root = rootOf(machine, slot);
      for (const page of [root, root + PAGE_SIZE]) {
        if (!(machine.memory.touched(page)?.memory.isZero() ?? true))
          return `slot ${slot} has entries in its root`;
      }
    }
    return undefined;
  },

  /** Every owner is the host, the core, or a VM that exists or did. */
  ownersExist: (machine, survey) => {
    const wrong = (n: number) => {
      const owner = survey.owner[n] ?? 0;
      if (owner <= OWNER_CORE) return false;
      const slot = owner % machine.core.maxVms;
      return slot === 0 || owner > machine.core.vm(slot).number("handle");
    };
    return findPage(machine, survey, wrong, "is owned by a VM that never was");
  },
} satisfies Record<string, State>;

/** Rules that need no survey. They hold whenever no CPU is in the core. */
export const always = {
  /** 5. Every TLB entry of every CPU agrees with the tables. */
  tlbsAgree: (machine) => {
    const stale = machine.tlbs.findStale();
    return stale && `CPU ${stale.cpu} still has a ${describeEntry(stale.entry)}`;
  },

  /** 5. No invalidation was left without waiting for it. */
  invalidationsAreComplete: (machine) => {
    for (const { index } of machine.cpus) {
      const left = machine.tlbs.incomplete(index);
      if (left.length > 0) return `CPU ${index} did not wait for ${left.join(", ")}`;
    }
    return undefined;
  },

  /** No lock is held. */
  noLockIsHeld: (machine) => {
    const { halves } = machine.core;
    const first = machine.core.area("LOCKS") / 4;
    for (let lock = 0; lock < 512; lock++) {
      const [next, serving] = [halves[first + 2 * lock], halves[first + 2 * lock + 1]];
      if (next !== serving) return `lock ${lock} has given ticket ${next} and serves ${serving}`;
    }
    return undefined;
  },

  /** 8. A vCPU runs on at most one CPU, and is held exactly while it runs. */
  vcpusRunOnce: (machine) => {
    const { core } = machine;
    const running = new Map<number, number>();
    for (const cpu of machine.cpus) {
      const record = core.cpu(cpu.index).number("running");
      if (cpu.context === "guest" && record === 0)
        return `CPU ${cpu.index} runs a guest that the core does not know`;
      if (cpu.context !== "guest" && record !== 0 && cpu.context !== "off")
        return `CPU ${cpu.index} runs the host, and the core thinks of vCPU ${hex(record)}`;
      if (cpu.context !== "guest") continue;
      if (running.has(record))
        return `vCPU ${hex(record)} runs on CPUs ${running.get(record)} and ${cpu.index}`;
      running.set(record, cpu.index);
    }
    for (let n = 0; n < core.coreState.number("vcpuSlots"); n++) {
      const vcpu = core.vcpu(n);
      const held = vcpu.get("lock") !== 0n;
      if (held !== running.has(vcpu.address)) return `vCPU record ${n} is ${held ? "held" : "not held"}`;
      if (held && vcpu.get("hva") === 0n) return `vCPU record ${n} runs and is free`;
    }
    return undefined;
  },

  /** A vCPU that exists belongs to a VM that is active. */
  vcpusHaveVms: (machine) => {
    const { core } = machine;
    const lists = new Map<number, number>();
    for (let slot = 1; slot < core.coreState.number("vmSlots"); slot++) {
      const vm = core.vm(slot);
      if (vm.number("state") === VmState.ACTIVE) lists.set(vm.address, vm.number("vcpus"));
    }
    for (let n = 0; n < core.coreState.number("vcpuSlots"); n++) {
      const vcpu = core.vcpu(n);
      if (vcpu.get("hva") === 0n) continue;
      const left = lists.get(vcpu.number("vm"));
      if (left === undefined) return `vCPU record ${n} has no active VM`;
      lists.set(vcpu.number("vm"), left - 1);
    }
    const wrong = [...lists].find(([, left]) => left !== 0);
    return wrong && `VM record ${hex(wrong[0])} counts ${wrong[1]} vCPUs too many`;
  },

  /** What runs on a CPU runs under its own translation and with the traps that the core relies on. */
  registersFitContext: (machine) => {
    for (const cpu of machine.cpus) {
      const wrong = cpu.context === "off" ? undefined : misfit(machine, cpu);
      if (wrong !== undefined) return `CPU ${cpu.index} runs the ${cpu.context}: ${wrong}`;
    }
    return undefined;
  },
} satisfies Record<string, (machine: Machine) => string | undefined>;

const aboutCpus = ["vcpusRunOnce", "registersFitContext"];

/** Names of the rules about single operations; what each says is at its place in `Invariants`. */
export const moments = [
  "breakBeforeMake",
  "mapsOnlyTheOwners",
  "donatedPageIsUnreachable",
  "donatedPageIsClean",
  "donatedPageIsUnused",
  "returnedPageIsUnreachable",
  "returnedPageIsZero",
  "ownersChangeByHost",
  "freedTableIsUnreachable",
  "storesReachWalkers",
  "hostRegistersSurvive",
  "hostRegistersAreHidden",
] as const;

/** Registers that need not be the same when the host goes on after a guest: EL2's own, and the guest's interrupt state. */
const mayChange =
  /^(esr|far|hpfar|elr|spsr|vdisr|vsesr|hcr)_el2$|^disr_el1$|^ich_|^icc_sre_el1$|^pm(cnten|selr_el0|cntenset_el0|cntenclr_el0)$/;

let compared: { readonly name: string; readonly number: number }[] = [];
let comparedOf = -1;

/** The registers that the host finds unchanged. */
function comparedRegisters(): typeof compared {
  const names = registerNames();
  if (names.length !== comparedOf) {
    comparedOf = names.length;
    compared = names
      .filter((name) => !mayChange.test(name))
      .map((name) => ({ name, number: numberOf(name) }));
  }
  return compared;
}

/** What the host had in its registers when it entered the core. */
interface HostRegisters {
  readonly values: readonly (bigint | undefined)[];
  readonly x: BigUint64Array;
  readonly z: BigUint64Array;
  readonly status: readonly bigint[];
}

/** Checks all rules for one machine. The machine must be watched from before it is switched on. */
export class Invariants implements Watch {
  readonly machine: Machine;
  /** Set false to check only when `check` is called. */
  eachStep = true;
  private readonly tables = new Map<
    number,
    { readonly slot: number; readonly level: number; readonly from: number }
  >();
  /** Pages that a VM owns and has not mapped yet. */
  private readonly fresh = new Set<number>();
  private readonly saved: (HostRegisters | undefined)[] = [];
  private readonly came: (Cpu["context"] | undefined)[] = [];
  private surveyed = "";
  private checkedTlbs = -1;

  constructor(machine: Machine) {
    this.machine = machine;
    machine.watch = this;
  }

  /**
   * Checks every rule about states.
   * @throws Violation that names the rule
   */
  check(): void {
    const survey = takeSurvey(this.machine);
    for (const [name, state] of Object.entries(states)) complain(name, state(this.machine, survey));
    this.checkAlways();
  }

  /** As `check`, leaving out what cannot have changed since the last time. */
  checkStep(): void {
    const { machine } = this;
    const now = `${machine.tableVersion} ${machine.ownerVersion}`;
    if (now !== this.surveyed) {
      const survey = takeSurvey(machine);
      for (const [name, state] of Object.entries(states)) complain(name, state(machine, survey));
      this.surveyed = now;
    } else if (machine.cpus.some(({ registers }) => (registers.get("hcr_el2") & HCR_FWB) !== 0n)) {
      complain("ownMemoryIsNormal", states.ownMemoryIsNormal(machine, takeSurvey(machine)));
    }
    this.checkAlways(this.checkedTlbs === machine.tableVersion ? ["tlbsAgree"] : []);
    this.checkedTlbs = machine.tableVersion;
  }

  /** Checks the rules of `always`; those about what CPUs run only when none is in the middle of an entry. */
  private checkAlways(leaveOut: readonly string[] = []): void {
    const { machine } = this;
    for (const [name, rule] of Object.entries(always)) {
      if (leaveOut.includes(name) || (machine.isNested && aboutCpus.includes(name))) continue;
      complain(name, rule(machine));
    }
  }

  enter(cpu: Cpu): void {
    this.came[cpu.index] = cpu.context;
    if (cpu.context !== "host") return;
    const { registers, x, z, fpsr, fpcr } = cpu;
    this.saved[cpu.index] = {
      values: [...registers.values],
      x: x.slice(),
      z: z.slice(),
      status: [fpsr, fpcr],
    };
  }

  leave(cpu: Cpu): void {
    this.checkStores();
    if (this.came[cpu.index] === "guest" && cpu.context === "host") this.checkHostRegisters(cpu);
    if (this.came[cpu.index] === "host" && cpu.context === "guest") checkHidden(cpu);
    if (this.eachStep) this.checkStep();
  }

  /** The host goes on after a guest ran on `cpu`: it finds its registers as it left them. */
  private checkHostRegisters(cpu: Cpu): void {
    const rule = "hostRegistersSurvive";
    const before = this.saved[cpu.index];
    if (before === undefined) return;
    for (const { name, number } of comparedRegisters()) {
      const [was, is] = [before.values[number] ?? 0n, cpu.registers.values[number] ?? 0n];
      if (was !== is) complain(rule, `${name} was ${hex(was)} and is ${hex(is)}`);
    }
    for (let n = 2; n < 31; n++) {
      if (before.x[n] !== cpu.x[n])
        complain(rule, `x${n} was ${hex(before.x[n] ?? 0n)} and is ${hex(cpu.x[n] ?? 0n)}`);
    }
    for (let n = 0; n < 32; n++) {
      if (before.z[32 * n] !== cpu.z[32 * n] || before.z[32 * n + 1] !== cpu.z[32 * n + 1])
        complain(rule, `v${n} changed`);
    }
    if (before.status[0] !== cpu.fpsr || before.status[1] !== cpu.fpcr)
      complain(rule, "FPSR or FPCR changed");
  }

  tableWrite(address: number, old: Step, low: number, high: number): void {
    const place = this.placeOf(address);
    if (place === undefined || !isValid(low)) return;
    const output = descriptorAddress(low, high);
    // 6. An entry that translates goes through invalid before it translates something else.
    if (isValid(old.low) && (descriptorAddress(old.low, old.high) !== output || (old.low & 3) !== (low & 3)))
      complain("breakBeforeMake", `${hex(address)} changes from ${hex(old.low)} to ${hex(low)} at once`);
    if (isTable(low, place.level) && this.machine.isCore(output)) {
      // 6. What a table holds is visible to walkers before the table is.
      for (const at of this.machine.tlbs.unseenStores()) {
        if (pageOf(at) === output)
          complain("storesReachWalkers", `a table is linked, no DSB after the store to ${hex(at)}`);
      }
      this.tables.set(output, { slot: place.slot, level: place.level + 1, from: address });
      this.leavesOf(output, place);
    } else {
      this.leafAppears(place.slot, decodeLeaf(low, high, place.level, 0));
    }
  }

  tableZero(page: number): void {
    if (this.placeOf(page) !== undefined) return;
    const entry = this.machine.tlbs.findThrough(page);
    // 4, 5. A table page is used anew only when no CPU can walk it any more.
    if (entry)
      complain(
        "freedTableIsUnreachable",
        `${hex(page)}: CPU ${entry.cpu} has a ${describeEntry(entry.entry)}`,
      );
  }

  ownerWrite(index: number, old: bigint, now: bigint): void {
    const { machine } = this;
    if (machine.core.coreState.get("booted") === 0n) return;
    const [from, to] = [Number(old >> 40n), Number(now >> 40n)];
    if (from === to) return;
    const pa = machine.memory.base + index * PAGE_SIZE;
    const change = `${hex(pa)} goes from ${from} to ${to}`;
    // 3, 7. Pages go between the host and VMs alone.
    if (from === OWNER_CORE || to === OWNER_CORE || (from !== OWNER_HOST && to !== OWNER_HOST))
      complain("ownersChangeByHost", change);
    if (to === OWNER_HOST) {
      // 7. What comes back to the host is zero, in memory and in caches, and the VM has lost it.
      if (!machine.caches.isZero(pa)) complain("returnedPageIsZero", change);
      this.mustBeUnreachable("returnedPageIsUnreachable", pa, () => true);
    } else {
      // 3. What goes to a VM is in no use.
      if (old !== 0n) complain("donatedPageIsUnused", `${change} with ${old} uses`);
      this.fresh.add(index);
      this.mustBeDonatable(pa);
    }
  }

  pageZero(pa: number): void {
    const owner = this.machine.ownerOf(pa);
    if (owner <= OWNER_CORE) complain("ownersChangeByHost", `${hex(pa)}, owned by ${owner}, is scrubbed`);
    // 7. A page is scrubbed only when its VM cannot write it any more.
    this.mustBeUnreachable("returnedPageIsUnreachable", pa, () => true);
    const vm = this.machine.core.vm(owner % this.machine.core.maxVms);
    if (vm.number("handle") !== owner || vm.number("state") === VmState.FREE) return;
    const ipa = this.machine.payloadOf(pa) * PAGE_SIZE;
    const result = walk(regimeOfVm(this.machine, vm), ipa, (at) => this.machine.descriptor(at));
    if ("leaf" in result) complain("returnedPageIsUnreachable", `VM ${owner} still maps ${hex(pa)}`);
  }

  /** A leaf becomes visible to walkers of slot 0, the host, or of a VM. */
  private leafAppears(slot: number, leaf: Leaf): void {
    const { machine } = this;
    const vm = machine.core.vm(slot);
    const isPrivate = slot !== 0 && vm.number("privateMemory") === 1;
    const expected = isPrivate ? vm.number("handle") : OWNER_HOST;
    for (let at = 0; at < leaf.size; at += PAGE_SIZE) {
      const pa = leaf.output + at;
      if (!machine.memory.has(pa)) continue;
      const owner = machine.ownerOf(pa);
      // 1, 2, 3. Nobody's tables ever show what is not theirs, not even for a moment.
      if (owner !== expected)
        complain("mapsOnlyTheOwners", `slot ${slot} maps ${hex(pa)}, owned by ${owner}`);
    }
    for (let at = leaf.output; isPrivate && at < leaf.output + leaf.size; at += PAGE_SIZE) {
      this.mustBeDonatable(at);
      this.fresh.delete(machine.memory.indexOf(at));
    }
  }

  /** 7. Nobody but the VM reaches the page, and until the VM does, no cache hides what memory holds. */
  private mustBeDonatable(pa: number): void {
    const { machine } = this;
    const result = walk(hostRegime(machine), pa, (address) => machine.descriptor(address));
    if ("leaf" in result) complain("donatedPageIsUnreachable", `the host still maps ${hex(pa)}`);
    if (this.fresh.has(machine.memory.indexOf(pa)) && !machine.caches.isClean(pa))
      complain("donatedPageIsClean", `${hex(pa)} has dirty lines`);
    this.mustBeUnreachable("donatedPageIsUnreachable", pa, (vmid) => vmid === 0);
  }

  private mustBeUnreachable(rule: string, pa: number, of: (vmid: number) => boolean): void {
    const found = this.machine.tlbs.findReaching(pa, of);
    if (found) complain(rule, `${hex(pa)}: CPU ${found.cpu} has a ${describeEntry(found.entry)}`);
  }

  /** 6. Every store to a table that is in use has been followed by a DSB. */
  private checkStores(): void {
    for (const address of this.machine.tlbs.unseenStores()) {
      if (this.placeOf(address) !== undefined)
        complain("storesReachWalkers", `no DSB after the store to ${hex(address)}`);
    }
  }

  /** Slot and level of the table that contains `address`, or undefined when no root leads to it. */
  private placeOf(address: number): { readonly slot: number; readonly level: number } | undefined {
    const { machine } = this;
    const offset = address - machine.coreBase;
    if (offset < machine.core.maxVms * 2 * PAGE_SIZE) {
      const slot = Math.floor(offset / (2 * PAGE_SIZE));
      const bits = machine.core.coreState.number("hostIpaBits");
      const inputBits = slot === 0 ? bits : machine.core.vm(slot).number("ipaBits");
      return { slot, level: inputBits > 40 ? 0 : 1 };
    }
    const known = this.tables.get(pageOf(address));
    if (known === undefined) return undefined;
    const { low, high } = machine.descriptor(known.from);
    if (!isValid(low) || descriptorAddress(low, high) !== pageOf(address)) return undefined;
    return this.placeOf(known.from) && known;
  }

  /** The leaves and tables of a table page that is being linked below `place`. */
  private leavesOf(table: number, place: { readonly slot: number; readonly level: number }): void {
    const level = place.level + 1;
    const halves = this.machine.memory.touched(table)?.memory.halves;
    for (let n = 0; halves && n < 512; n++) {
      const [low, high] = [halves[2 * n] as number, halves[2 * n + 1] as number];
      if (!isValid(low)) continue;
      if (isTable(low, level))
        complain("tablesAreTrees", `a table with tables below it is linked at ${hex(table)}`);
      this.leafAppears(place.slot, decodeLeaf(low, high, level, 0));
    }
  }
}

/** A guest begins to run: registers that no KVM guest has, and no trap hides, hold nothing of the host's. */
function checkHidden({ registers }: Cpu): void {
  for (const name of ["smpri_el1", "tpidr2_el0"]) {
    const value = registers.has(name) ? registers.get(name) : 0n;
    if (value !== 0n) complain("hostRegistersAreHidden", `the guest finds ${hex(value)} in ${name}`);
  }
}

function complain(rule: string, text: string | undefined): void {
  if (text !== undefined) throw new Violation(rule, text);
}

/** The first page of RAM for which `wrong` holds, in words. */
function findPage(
  machine: Machine,
  { pages, owner, payload }: Survey,
  wrong: (n: number) => boolean,
  text: string | ((n: number) => string),
): string | undefined {
  const n = pages.find(wrong);
  if (n === undefined) return undefined;
  const page = `${hex(machine.memory.base + n * PAGE_SIZE)}, owner ${owner[n]} with ${payload[n]},`;
  return `${page} ${typeof text === "string" ? text : text(n)}`;
}

function restIsZero(halves: Uint32Array): boolean {
  for (let i = 2; i < halves.length; i++) if (halves[i] !== 0) return false;
  return true;
}

function pool(machine: Machine): { base: number; end: number; pages: number } {
  const base = machine.core.bootInfo.number("poolBase");
  const pages = machine.core.bootInfo.number("poolPages");
  return { base, end: base + pages * PAGE_SIZE, pages };
}

function rootOf(machine: Machine, slot: number): number {
  return machine.core.bootInfo.number("rootsBase") + slot * 2 * PAGE_SIZE;
}

function hostRegime(machine: Machine): Regime {
  const vtcr = machine.core.coreState.get("hostVtcr");
  const regime = decodeRegime(BigInt(rootOf(machine, 0)), vtcr);
  if (regime === undefined)
    throw new Violation("registersFitContext", `VTCR_EL2 ${hex(vtcr)} makes no translation`);
  return regime;
}

function regimeOfVm(machine: Machine, vm: Structure): Regime {
  const slot = vm.number("slot");
  const regime = decodeRegime(BigInt(rootOf(machine, slot)) | (BigInt(slot) << 48n), vm.get("vtcr"));
  if (regime === undefined)
    throw new Violation("registersFitContext", `VTCR_EL2 ${hex(vm.get("vtcr"))} makes no translation`);
  return regime;
}

/** Reads all tables. */
function takeSurvey(machine: Machine): Survey {
  const { memory, core } = machine;
  const vms: LiveVm[] = [];
  for (let slot = 1; slot < core.coreState.number("vmSlots"); slot++) {
    const record = core.vm(slot);
    if (record.number("state") === VmState.FREE) continue;
    vms.push({
      slot,
      record,
      handle: record.number("handle"),
      isPrivate: record.number("privateMemory") === 1,
      regime: regimeOfVm(machine, record),
    });
  }
  const byHost = new Uint8Array(memory.pageCount);
  const lent = new Uint32Array(memory.pageCount);
  const owned = new Uint32Array(memory.pageCount);
  const retained = new Uint32Array(memory.pageCount);
  const oddRetained: Step[] = [];
  const leaves: { vm: LiveVm; leaf: Leaf }[] = [];
  const oddHostLeaves: Leaf[] = [];
  const tables = new Map<number, number>();

  const count = (counts: Uint8Array | Uint32Array, { output, size }: Leaf) => {
    const from = Math.max(output, memory.base);
    const to = Math.min(output + size, memory.end);
    for (let n = memory.indexOf(from); n < memory.indexOf(to); n++) counts[n] = (counts[n] ?? 0) + 1;
  };
  const use = (vm: LiveVm | undefined, leaf: Leaf, isLive: boolean) => {
    if (!isLive) {
      count(retained, leaf);
    } else if (vm === undefined) {
      count(byHost, leaf);
      const isRam = leaf.base < memory.end && leaf.base + leaf.size > memory.base;
      const allRam = leaf.base >= memory.base && leaf.base + leaf.size <= memory.end;
      const type = memoryType(leaf.memAttr, false);
      if (leaf.base !== leaf.output || isRam !== allRam || (type === "normal") !== isRam)
        oddHostLeaves.push(leaf);
    } else {
      count(vm.isPrivate ? owned : lent, leaf);
      leaves.push({ vm, leaf });
    }
  };
  const visit = (vm: LiveVm | undefined, table: number, level: number, ipa: number, isLive: boolean) => {
    const halves = memory.touched(table)?.memory.halves;
    for (let n = 0; halves && n < 512; n++) {
      const low = halves[2 * n] as number;
      const high = halves[2 * n + 1] as number;
      if (low === 0 && high === 0) continue;
      const at = ipa + n * levelSize(level);
      const valid = isValid(low);
      if (!valid && (vm === undefined || vm.isPrivate || level === 3))
        oddRetained.push({ address: table + 8 * n, low, high });
      if (!isTable(low | 1, level)) {
        use(vm, decodeLeaf(low, high, level, at), valid && isLive);
        continue;
      }
      const below = descriptorAddress(low, high);
      tables.set(below, (tables.get(below) ?? 0) + 1);
      if (tables.get(below) === 1) visit(vm, below, level + 1, at, valid && isLive);
    }
  };
  const visitRoot = (vm: LiveVm | undefined, { root, rootTables, startLevel }: Regime) => {
    for (let n = 0; n < rootTables; n++) {
      visit(vm, root + n * PAGE_SIZE, startLevel, n * 512 * levelSize(startLevel), true);
    }
  };
  visitRoot(undefined, hostRegime(machine));
  for (const vm of vms) visitRoot(vm, vm.regime);
  const pins = countPins(machine, vms);
  const { owner, payload } = readOwners(machine);
  const firstCore = memory.indexOf(machine.coreBase);
  const lastCore = memory.indexOf(machine.coreEnd - 1);
  const pages: number[] = [];
  for (let n = 0; n < memory.pageCount; n++) {
    if (owner[n] === OWNER_HOST && payload[n] === 0 && lent[n] === 0 && owned[n] === 0 && !pins.has(n))
      continue;
    if (n < firstCore || n > lastCore || owner[n] !== OWNER_CORE) pages.push(n);
  }
  return {
    vms,
    owner,
    payload,
    pages,
    pins,
    byHost,
    lent,
    retained,
    owned,
    leaves,
    oddHostLeaves,
    oddRetained,
    tables,
  };
}

/** The owner table, taken apart. */
function readOwners(machine: Machine): { owner: Uint32Array; payload: Float64Array } {
  const halves = new Uint32Array(machine.owners.buffer);
  const owner = new Uint32Array(machine.owners.length);
  const payload = new Float64Array(machine.owners.length);
  for (let n = 0; n < owner.length; n++) {
    const high = halves[2 * n + 1] as number;
    owner[n] = high >>> 8;
    payload[n] = (high & 0xff) * 2 ** 32 + (halves[2 * n] as number);
  }
  return { owner, payload };
}

/** Structures of the host that the core keeps: how many cover each page of RAM. */
function countPins(machine: Machine, vms: readonly LiveVm[]): Map<number, number> {
  const { core, memory } = machine;
  const pins = new Map<number, number>();
  const pin = (pa: number, size: number) => {
    for (let page = pageOf(pa); page < pa + size; page += PAGE_SIZE) {
      const n = memory.indexOf(page);
      pins.set(n, (pins.get(n) ?? 0) + 1);
    }
  };
  for (const { record } of vms) pin(record.number("kvmPa"), core.profile.number("kvmSize"));
  for (let n = 0; n < core.coreState.number("vcpuSlots"); n++) {
    const vcpu = core.vcpu(n);
    if (vcpu.get("hva") === 0n) continue;
    pin(vcpu.number("pa"), core.profile.number("vcpuSize"));
    const vq = vcpu.number("sveVq");
    if (vq !== 0) pin(vcpu.number("svePa"), vq * (32 * 16 + 17 * 2));
  }
  return pins;
}

/** The VM record of the vCPU that the core runs on `cpu`. */
function runningVm(machine: Machine, cpu: Cpu): Structure | undefined {
  const { core } = machine;
  const address = core.cpu(cpu.index).number("running");
  const index = (address - core.area("VCPU_TABLE")) / core.area("VCPU_RECORD_SIZE");
  const vm = (core.vcpu(index).number("vm") - core.area("VM_TABLE")) / core.area("VM_RECORD_SIZE");
  return Number.isInteger(vm) ? core.vm(vm) : undefined;
}

/** What is wrong with the registers of a CPU for what it runs. */
function misfit(machine: Machine, cpu: Cpu): string | undefined {
  const { registers } = cpu;
  const hcr = registers.get("hcr_el2");
  const regime = machine.regimeOf(cpu);
  if (regime === undefined) return "its VTCR_EL2 makes no translation";
  if (cpu.vttbr !== registers.get("vttbr_el2")) return "VTTBR_EL2 was written without synchronization";
  const needed = HCR_VM | HCR_TSC | HCR_RW;
  const forbidden = HCR_TGE | HCR_HCD | HCR_CD | HCR_ID | HCR_E2H | HCR_NV;
  if ((hcr & needed) !== needed || (hcr & forbidden) !== 0n) return `HCR_EL2 is ${hex(hcr)}`;
  if (cpu.context === "host") {
    if (regime.root !== rootOf(machine, 0) || regime.vmid !== 0) return `VTTBR_EL2 is ${hex(cpu.vttbr)}`;
    if (registers.get("vtcr_el2") !== machine.core.coreState.get("hostVtcr"))
      return "VTCR_EL2 is not the host's";
    if ((hcr & HCR_IRQS) !== 0n) return `HCR_EL2 is ${hex(hcr)}`;
    return undefined;
  }
  const vm = runningVm(machine, cpu);
  if (vm === undefined) return "it has no VM";
  const slot = vm.number("slot");
  if (vm.number("state") !== VmState.ACTIVE) return `its VM ${vm.number("handle")} is not active`;
  if (regime.root !== rootOf(machine, slot) || regime.vmid !== slot) return `VTTBR_EL2 is ${hex(cpu.vttbr)}`;
  if (registers.get("vtcr_el2") !== vm.get("vtcr")) return "VTCR_EL2 is not its VM's";
  if ((hcr & HCR_IRQS) !== HCR_IRQS || (hcr & HCR_SHARED) !== HCR_SHARED || (hcr & HCR_TYPES) !== 0n)
    return `HCR_EL2 is ${hex(hcr)}`;
  if (((hcr & HCR_FWB) !== 0n) !== hasFeature(cpu.model, "FWB"))
    return `HCR_EL2.FWB is not the core's: ${hex(hcr)}`;
  const mdcr = registers.get("mdcr_el2");
  if ((mdcr & MDCR_GUEST) !== MDCR_GUEST || (mdcr & MDCR_BUFFERS) !== 0n) return `MDCR_EL2 is ${hex(mdcr)}`;
  if ((mdcr & MDCR_TDA) === 0n && machine.core.cpu(cpu.index).get("debugLoaded") === 0n)
    return "the host's breakpoint registers are not trapped";
  if (hasFeature(cpu.model, "HCX") && (registers.get("hcrx_el2") & ~HCRX_GUEST) !== 0n)
    return `HCRX_EL2 is ${hex(registers.get("hcrx_el2"))}`;
  return hasFeature(cpu.model, "SME") ? openSme(cpu) : undefined;
}

/** What lets the guest on a CPU reach the host's registers of SME. */
function openSme({ registers }: Cpu): string | undefined {
  if ((registers.get("cptr_el2") & (1n << 12n)) === 0n) return "SME is not trapped";
  if (registers.get("svcr") !== 0n) return "it began in streaming mode or with ZA on";
  return undefined;
}
