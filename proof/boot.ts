/**
 * Start of the core: everything that is taken for granted afterwards is checked or made here.
 *
 * `checkBootInfo` is what makes the facts about the boot tool's information true of which every other proof is told; nothing is told to it.
 */
import {
  add,
  and,
  band,
  bor,
  bv,
  type Call,
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  FALSE,
  implies,
  ite,
  type LoopContract,
  lshr,
  Memory,
  ne,
  not,
  or,
  type State,
  shl,
  sub,
  type Term,
  TRUE,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { type Bits, maskOf } from "./bits.ts";
import { invariantsOf } from "./invariants.ts";
import { field, fieldNames } from "./layout.ts";
import { holdingNothing } from "./lock.ts";
import { type Registers, vttbrOf } from "./machine.ts";
import { cpuField, cpuKey, FEATURES, type Feature, has, setHostReg, thisCpu } from "./percpu.ts";
import { profileField } from "./profile.ts";
import {
  address,
  ghost,
  HOST_ROOT,
  infoFacts,
  isAligned,
  isAnyRoot,
  known,
  type Machine,
  type MemoryName,
  memory,
  nothingStale,
  OWNER_CORE,
  page,
  read,
  requireNothingStale,
  rewrite,
  rootPage,
  setGhost,
  startLevel,
  tree,
  Use,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

const mask = (bits: Bits): Term => bv(maskOf(bits), 64);
const truth = (fact: Term): Term => ite(fact, bv(1, 32), bv(0, 32));
const zero = (value: Term): Term => eq(value, bv(0, value.width));

/** What a feature is told by: a field of an ID register (Arm ARM D24.2), and what else there is to know. */
function detected(state: State, registers: Registers): Record<Feature, Term> {
  const id = (name: string, high: number, low: number) =>
    extract(high, low, registers.get(state, `id_aa64${name}_el1`));
  const some = (name: string, low: number) => not(zero(id(name, low + 3, low)));
  /** Firmware keeps the buffer when P is set. */
  const offered = (name: string) => zero(extract(4, 4, registers.get(state, name)));
  const pmu = id("dfr0", 11, 8);
  return {
    SVE: some("pfr0", 32),
    RAS: some("pfr0", 28),
    PMU: and(not(zero(pmu)), ne(pmu, bv(15, 4))),
    SPE: and(some("dfr0", 32), offered("pmbidr_el1")),
    TRBE: and(some("dfr0", 44), offered("trbidr_el1")),
    HCX: some("mmfr1", 40),
    TCR2: some("mmfr3", 0),
    S1PIE: some("mmfr3", 8),
    S1POE: some("mmfr3", 16),
    PAUTH: or(
      ...[some("isar1", 4), some("isar1", 8), some("isar1", 24), some("isar1", 28)],
      some("isar2", 8),
      some("isar2", 12),
    ),
    SME: some("pfr1", 24),
    A32_EL0: eq(id("pfr0", 3, 0), bv(2, 4)),
    FGT: some("mmfr0", 56),
    AMU: some("pfr0", 44),
    FWB: some("mmfr2", 40),
  };
}

const DETECTED = ["features", "lastBreakpoint", "lastWatchpoint", "lastListRegister", "priorityBits"];

/** What a CPU has is written in its area. */
function detect(c: Clause, m: Machine, registers: Registers): void {
  const { before, state } = c;
  c.havoc("linear", (key) => or(...DETECTED.map((name) => eq(key, cpuKey(m, name)))));
  for (const [name, exists] of Object.entries(detected(before, registers)))
    c.ensure(`${name} is what the ID registers say`, eq(has(state, m, name as Feature), exists));
  const others = extract(63, FEATURES.length, cpuField(state, m, "features"));
  c.ensure("there is no other feature", eq(others, bv(0, others.width)));
  const dfr0 = registers.get(before, "id_aa64dfr0_el1");
  const vtr = registers.get(before, "ich_vtr_el2");
  const is = (name: string, value: Term) => eq(cpuField(state, m, name), zext(value, 64));
  c.ensure(
    "numbers of registers are what the ID registers say",
    and(
      is("lastBreakpoint", extract(15, 12, dfr0)),
      is("lastWatchpoint", extract(23, 20, dfr0)),
      is("lastListRegister", extract(3, 0, vtr)),
      eq(cpuField(state, m, "priorityBits"), add(zext(extract(28, 26, vtr), 64), bv(1, 64))),
    ),
  );
}

/** CPTR_EL2 of the host: nothing it has is trapped (Arm ARM D24.2.28, without E2H). */
const CPTR: Bits = { RES1: [0, 7], RES1_9: 9, RES1_13: 13 };
const TZ: Bits = { TZ: 8 };
const TSM: Bits = { TSM: 12 };
const HCR: Bits = { VM: 0, TSC: 19, RW: 31, APK: 40, API: 41, ATA: 56 };
const HCRX: Bits = { MSCEn: 11, TCR2En: 14, EnFPM: 22 };
const HFGRTR: Record<string, Bits> = {
  SME: { nSMPRI_EL1: 54, nTPIDR2_EL0: 55 },
  S1PIE: { nPIRE0_EL1: 57, nPIR_EL1: 58 },
  S1POE: { nPOR_EL0: 59 },
};

/** A word of the core's state. */
export const coreWord = (state: State, m: Machine, name: string): Term =>
  word(state, m.layout.constant("CORE_STATE") + field.core(name));

/** What every CPU has when the host starts on it. */
function setUp(c: Clause, m: Machine, registers: Registers): void {
  const { before, state } = c;
  requireNothingStale(c);
  for (const [n, fact] of infoFacts(m).entries()) c.require(`fact ${n} about the information`, fact);
  detect(c, m, registers);
  const present = (...features: Feature[]) => has(state, m, ...features);
  const set = (name: string, value: Term, condition: Term = TRUE) =>
    registers.set(state, name, value, condition);
  const put = (name: string, value: Term) => write(state, "linear", cpuKey(m, name), value);
  const either = (condition: Term, bits: Bits): Term => ite(condition, mask(bits), bv(0, 64));
  c.ensure(
    "it has FEAT_S2FWB as the other CPUs do",
    eq(present("FWB"), not(zero(coreWord(before, m, "forceWriteBack")))),
  );
  const cptr = [mask(CPTR), either(not(present("SVE")), TZ), either(not(present("SME")), TSM)].reduce(
    (all, part) => bor(all, part),
  );
  put("hostCptr", cptr);
  set("cptr_el2", cptr);
  const { TCR2En: _, ...rest } = HCRX;
  const hcrx = ite(present("TCR2"), mask(HCRX), mask(rest));
  put("hostHcrx", hcrx);
  set("hcrx_el2", hcrx, present("HCX"));
  set("hcr_el2", mask(HCR));
  set("vtcr_el2", coreWord(before, m, "hostVtcr"));
  set("vttbr_el2", vttbrOf(m, HOST_ROOT));
  set("vbar_el2", bv(0, 64));
  set("hstr_el2", bv(0, 64));
  set("cnthctl_el2", bv(3, 64));
  set("cntvoff_el2", bv(0, 64));
  set("vpidr_el2", registers.get(before, "midr_el1"));
  set("vmpidr_el2", registers.get(before, "mpidr_el1"));
  set("ich_hcr_el2", bv(0, 64));
  set("icc_sre_el2", bv(15, 64));
  set("zcr_el2", bv(15, 64), present("SVE"));
  set("smcr_el2", bv((1n << 31n) | 15n, 64), present("SME"));
  set("lorc_el1", bv(0, 64), not(zero(extract(19, 16, registers.get(before, "id_aa64mmfr1_el1")))));
  // Translation and caches are off.
  set("sctlr_el1", bv(0x30d0_0800, 64));
  const mdcr = [
    ite(present("PMU"), zext(extract(15, 11, registers.get(before, "pmcr_el0")), 64), bv(0, 64)),
    either(present("SPE"), { E2PB: [12, 13] }),
    either(present("TRBE"), { E2TB: [24, 25] }),
  ].reduce((all, part) => bor(all, part));
  put("hostMdcr", mdcr);
  set("mdcr_el2", mdcr);
  set("pmscr_el2", mask({ CX: 3, PA: 4 }), present("SPE"));
  const traps = Object.entries(HFGRTR)
    .map(([feature, bits]) => either(present(feature as Feature), bits))
    .reduce((all, part) => bor(all, part));
  const brbe = ite(
    ule(bv(3, 4), extract(35, 32, registers.get(before, "id_aa64dfr0_el1"))),
    mask({ nPMSNEVFR_EL1: 62 }),
    bv(0, 64),
  );
  const fgt = present("FGT");
  set("hdfgrtr_el2", brbe, fgt);
  set("hdfgwtr_el2", brbe, fgt);
  set("hfgrtr_el2", traps, fgt);
  set("hfgwtr_el2", traps, fgt);
  set("hfgitr_el2", bv(0, 64), fgt);
  set("hafgrtr_el2", bv(0, 64), and(fgt, present("AMU")));
  // What was written before is seen before the host runs.
  setGhost(state, "unordered", FALSE);
}

/** The host starts at `entry` with `context` in x0 and zero in all other registers, and no guest's registers are in the machine. */
function hostEntered(c: Clause, m: Machine, registers: Registers, entry: Term, context: Term): void {
  const { state } = c;
  for (let n = 0; n < 31; n++) setHostReg(state, m, n, n === 0 ? context : bv(0, 64));
  for (const name of ["running", "lastVcpu", "fpLoaded", "debugLoaded"])
    write(state, "linear", cpuKey(m, name), bv(0, 64));
  registers.set(state, "elr_el2", entry);
  // EL1h, D, A, I and F masked.
  registers.set(state, "spsr_el2", bv(0b11_1100_0101, 64));
}

// ----------------------------------------------------------------------------------------------------------------------------- memory

const pool = (m: Machine): Term => page(m.info("poolBase"));
const isPool = (m: Machine, table: Term): Term =>
  ult(sub(table, pool(m)), extract(35, 0, m.info("poolPages")));

/** Input address bits by ID_AA64MMFR0_EL1.PARange, as far as the core has roots for them (Arm ARM D24.2.75). */
function physicalBits(state: State, registers: Registers): Term {
  const range = extract(3, 0, registers.get(state, "id_aa64mmfr0_el1"));
  const known = [32, 36, 40, 42, 44];
  return known.reduceRight((rest, bits, n) => ite(eq(range, bv(n, 4)), bv(bits, 64), rest), bv(48, 64));
}

/**
 * The state from which the core starts: this CPU alone runs, so it holds what there is to hold. The core's own state and tables of VMs are
 * zero; RAM holds anything, table memory too. Ghosts say what boot is about to make: the roots, and the pool's list from its last page on.
 */
export function reset(m: Machine, registers: Registers): (state: State) => void {
  return (state) => {
    holdingNothing(state);
    state.ghosts.booting = TRUE;
    state.ghosts.poolHeld = TRUE;
    const fill = (name: MemoryName, value: (key: Term) => Term) => {
      const { keyWidth, valueWidth } = memory(state, name);
      state.memories[name] = Memory.from(keyWidth, valueWidth, value);
    };
    const zeroes = [
      "mapped",
      "paged",
      "refs",
      "pins",
      "zeroed",
      "cleaned",
      "isPrivate",
      "handle",
      "alive",
    ] as const;
    for (const name of [...zeroes, "vcpuRank", "vcpuAtRank"] as const) {
      const { valueWidth } = memory(state, name);
      fill(name, () => bv(0, valueWidth));
    }
    const level = startLevel(physicalBits(state, registers));
    const firstOf = (second: Term) =>
      ite(eq(level, bv(0, 2)), concat(second, bv(0, 36)), concat(bv(0, 9), second, bv(0, 27)));
    fill("use", (table) =>
      ite(isAnyRoot(m, table), tree(extract(8, 1, table)), ite(isPool(m, table), Use.FREE, Use.OTHER)),
    );
    fill("level", () => level);
    fill("base", (table) => firstOf(extract(0, 0, table)));
    fill("position", (key) => {
      const second = ite(eq(level, bv(0, 2)), extract(36, 36, key), extract(27, 27, key));
      return concat(extract(35, 1, rootPage(m, extract(46, 39, key))), second);
    });
    fill("rank", (table) => add(sub(table, pool(m)), bv(1, 36)));
    fill("atRank", (rank) => sub(add(pool(m), rank), bv(1, 36)));
    const at = (name: string) => m.layout.constant(name);
    const empty = [
      [at("CORE_STATE"), 0x1000],
      [at("VM_TABLE"), at("MAX_VMS") * at("VM_RECORD_SIZE")],
      [at("VCPU_TABLE"), at("MAX_VCPUS") * at("VCPU_RECORD_SIZE")],
    ] as const;
    rewrite(
      state,
      "linear",
      (key) => or(...empty.map(([start, size]) => ult(sub(key, bv(start >> 3, 29)), bv(size >> 3, 29)))),
      () => bv(0, 64),
    );
  };
}

/** What `divideMemory` makes of the owner table and of table memory: the core's pages are its own, roots are empty, the pool is a list. */
function divided(m: Machine, before: State, parts: { host: Term; core: Term; roots: Term; pool: Term }) {
  const owner = (memory: Memory) =>
    memory.rewrite((index, old) => {
      const place = zext(index, 64);
      const first = lshr(sub(m.info("coreBase"), m.info("ramBase")), bv(12, 64));
      const isCore = ult(sub(place, first), parts.core);
      return ite(isCore, concat(OWNER_CORE, bv(0, 40)), ite(ult(place, parts.host), bv(0, 64), old));
    });
  const pt = (memory: Memory) =>
    memory.rewrite((key, old) => {
      const table = extract(44, 9, key);
      const place = sub(table, pool(m));
      const previous = ite(eq(place, bv(0, 36)), bv(0, 64), address(sub(table, bv(1, 36))));
      const link = ite(eq(extract(8, 0, key), bv(0, 9)), previous, bv(0, 64));
      const isRoot = ult(zext(sub(table, page(m.info("rootsBase"))), 64), parts.roots);
      return ite(ult(zext(place, 64), parts.pool), link, ite(isRoot, bv(0, 64), old));
    });
  return { owner: owner(memory(before, "owner")), pt: pt(memory(before, "pt")) };
}

/** The loops of `divideMemory`: each is as far as its counter says. */
function dividing(m: Machine): Record<number, LoopContract> {
  const local = (state: State, n: number) => state.locals[n] as Term;
  const none = bv(0, 64);
  const all = {
    host: m.info("ramPages"),
    core: m.info("corePages"),
    roots: bv(512, 64),
    pool: m.info("poolPages"),
  };
  const counting = (
    n: number,
    most: Term,
    what: "owner" | "pt",
    parts: (count: Term, entry: State) => Memory,
  ): LoopContract => ({
    invariant: (now) => ({ "the counter is in range": ule(local(now, n), most) }),
    variant: (now) => sub(most, local(now, n)),
    memories: { [what]: (now, entry) => parts(local(now, n), entry) },
    ghosts: what === "pt" ? { unordered: "any" } : {},
  });
  const start = { host: none, core: none, roots: none, pool: none };
  return {
    0: counting(0, all.host, "owner", (host, entry) => divided(m, entry, { ...start, host }).owner),
    1: counting(0, all.core, "owner", (core, entry) => divided(m, entry, { ...start, core }).owner),
    2: counting(0, all.roots, "pt", (roots, entry) => divided(m, entry, { ...start, roots }).pt),
    3: {
      ...counting(2, all.pool, "pt", (pool, entry) => divided(m, entry, { ...start, pool }).pt),
      memories: {
        pt: (now, entry) => divided(m, entry, { ...start, pool: local(now, 2) }).pt,
        use: (_, entry) => memory(entry, "use"),
      },
      locals: {
        1: (now) => {
          const count = local(now, 2);
          const last = add(m.info("poolBase"), shl(sub(count, bv(1, 64)), bv(12, 64)));
          return ite(eq(count, none), none, last);
        },
      },
    },
  };
}

export function bootContracts({ m, registers }: Core): Contract[] {
  const info = m.info;
  const names = invariantsOf(m, registers).map(({ name }) => name);
  return [
    {
      // Four bits of a register.
      function: "boot/idField",
      founding: true,
      parameters: ["register", "shift"],
      spec(c) {
        const [register, shift] = c.args as [Term, Term];
        c.require("the field lies in the register", ult(shift, bv(64, 64)));
        return band(lshr(register, shift), bv(15, 64));
      },
    },
    {
      // Whether a range of pages lies in the core's memory.
      function: "boot/inCore",
      founding: true,
      parameters: ["base", "pages"],
      spec(c) {
        const [base, pages] = c.args as [Term, Term];
        const first = lshr(sub(base, info("coreBase")), bv(12, 64));
        const fits = ule(pages, sub(info("corePages"), first));
        return truth(and(isAligned(base, 12), ult(first, info("corePages")), fits));
      },
    },
    {
      // Whether no offset of the profile leads out of its structure.
      function: "boot/checkProfile",
      founding: true,
      without: ["the profile leads out of no structure"],
      spec(c) {
        const result = c.result(32);
        const sane = eq(result, bv(1, 32));
        c.ensure("it says yes or no", ule(result, bv(1, 32)));
        for (const name of fieldNames.profile)
          c.ensure("no offset leads out", implies(sane, profileField(m, name)));
        const all = fieldNames.profile.map((name) => profileField(m, name));
        c.ensure("nothing else is refused", implies(and(...all), sane));
        c.can("the profile is good", sane);
        c.can("the profile is bad", not(sane));
        return result;
      },
    },
    {
      // Whether the boot tool's information makes sense: what every proof is told of it is so.
      function: "boot/checkBootInfo",
      founding: true,
      without: ["the profile leads out of no structure"],
      spec(c) {
        const result = c.result(32);
        const good = eq(result, bv(1, 32));
        c.ensure("it says yes or no", ule(result, bv(1, 32)));
        for (const [n, fact] of infoFacts(m).entries())
          c.ensure(`fact ${n} about the information`, implies(good, fact));
        for (const name of fieldNames.profile)
          c.ensure("the profile is good", implies(good, profileField(m, name)));
        const profile = fieldNames.profile.map((name) => profileField(m, name));
        const most = ule(info("poolPages"), bv(1 << 30, 64));
        c.ensure(
          "nothing else is refused but a pool whose entries a count could not hold",
          implies(and(...infoFacts(m), ...profile, most), good),
        );
        c.ensure("entries fit in a count", implies(good, most));
        c.can("the information is good", good);
        c.can("the information is bad", not(good));
        return result;
      },
    },
    {
      // Gives each principal its memory; nothing is mapped yet.
      function: "boot/divideMemory",
      founding: true,
      without: names,
      given: reset(m, registers),
      ghost: {
        pt_write: (one: Call) => known(one, "use", page(one.args[0] as Term), Use.FREE),
      },
      loops: dividing(m),
      spec(c) {
        const { before, state } = c;
        for (const [n, fact] of infoFacts(m).entries()) c.require(`fact ${n} about the information`, fact);
        c.require("the machine starts", and(ghost(before, "booting"), ghost(before, "poolHeld")));
        c.requireAll("the pool's pages are free", "use", (table) =>
          implies(isPool(m, table), eq(read(before, "use", table), Use.FREE)),
        );
        const [host, coreSize, pages] = [info("ramPages"), info("corePages"), info("poolPages")];
        Object.assign(
          state.memories,
          divided(m, before, { host, core: coreSize, roots: bv(512, 64), pool: pages }),
        );
        const last = add(info("poolBase"), shl(sub(pages, bv(1, 64)), bv(12, 64)));
        const at = (name: string) => bv((m.layout.constant("CORE_STATE") + field.core(name)) >> 3, 29);
        write(state, "linear", at("poolHead"), ite(zero(pages), bv(0, 64), last));
        write(state, "linear", at("poolFree"), pages);
        c.havocGhost("unordered");
      },
    },
    {
      // Finds out what this CPU has.
      function: "boot/detect",
      founding: true,
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      spec: (c) => detect(c, m, registers),
    },
    {
      // Sets every EL2 register for the host on this CPU, or ends the core when the CPU lacks what others have.
      function: "boot/setupCpu",
      founding: true,
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      given: nothingStale,
      spec: (c) => setUp(c, m, registers),
    },
    {
      // Lets this CPU run the host.
      function: "boot/enterHost",
      founding: true,
      parameters: ["cpu", "entry", "context"],
      forms: { 0: thisCpu(m) },
      spec(c) {
        const [, entry, context] = c.args as [Term, Term, Term];
        hostEntered(c, m, registers, entry, context);
      },
    },
  ];
}
