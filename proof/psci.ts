/** Firmware calls of the host: every CPU comes up in the core, and firmware hears nothing that would let it touch memory. */
import {
  add,
  and,
  band,
  bv,
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  ite,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  uge,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { requireFree } from "./lock.ts";
import { HARMLESS_PSCI } from "./machine.ts";
import { areaField, cpuField, hostReg, isHostReg, knowsNumber } from "./percpu.ts";
import { cpuArea, type Machine, word } from "./state.ts";
import type { Core } from "./theory.ts";

const LOW_HALF = 0xffff_ffffn;
const SMCCC_64 = 1n << 30n;
const CPU_SUSPEND = 0x8400_0001;
const CPU_ON = 0x8400_0003;
const SYSTEM_SUSPEND = 0x8400_000e;
/** Registers that a call of firmware may change (Arm DEN0028: x0 to x17). */
const CALL_REGISTERS = 18;
/** Where the CPUs' affinities are in the boot information (kcore/bootinfo.ts). */
const MPIDR_LIST = 0x100;
const MPIDR_AFFINITY = 0xff_00ff_ffffn;
const MASK = (1n << 64n) - 1n;
/** The local variables of cpuOn that hold the number of a CPU, while it is looked for and once it is found, and its affinity. */
const NEXT = 1;
const FOUND = 2;
const AFFINITY = 3;

/** TRNG_VERSION, _FEATURES, _GET_UUID and _RND (Arm DEN0098). */
const RANDOM = [0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053];
/** SMCCC_VERSION, SMCCC_ARCH_FEATURES, _SOC_ID and the four SMCCC_ARCH_WORKAROUNDs (Arm DEN0028). */
const ARCHITECTURAL = [
  0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_8000, 0x8000_7fff, 0x8000_3fff, 0x8000_0004,
];

const INVALID_PARAMS = bv(-2, 64);
const ALREADY_ON = bv(-4, 64);
const NOT_SUPPORTED = bv(-1, 64);

/** Function number of the host's call, without the bit of the 64-bit convention. */
const functionOf = (state: State, m: Machine): Term =>
  band(hostReg(state, m, 0), bv(LOW_HALF & ~SMCCC_64, 64));

/** Argument `n` of the host's call: those of the 32-bit convention have halves of registers. */
function argument(state: State, m: Machine, n: number): Term {
  const [id, x] = [0, n].map((one) => hostReg(state, m, one)) as [Term, Term];
  return ite(ne(band(id, bv(SMCCC_64, 64)), bv(0, 64)), x, band(x, bv(LOW_HALF, 64)));
}

export function psciContracts(core: Core): Contract[] {
  const { m } = core;
  /** The state in which the host made its call. */
  const atCall = core.theory.start();
  /** Whether the CPU with this area comes up where x`entry` of the host's call says, with its context. */
  const comesUp = (state: State, area: Term, entry: Term): Term => {
    const [one, two, three] = [1, 2, 3].map((n) => argument(atCall, m, n)) as [Term, Term, Term];
    const isFirst = eq(entry, bv(1, 32));
    const is = (name: string, value: Term) => eq(areaField(state, area, name), value);
    return and(
      is("bootEntry", ite(isFirst, one, two)),
      is("bootContext", ite(isFirst, two, three)),
      is("bootPending", bv(1, 64)),
    );
  };
  const anyCpu = variable("any CPU", 6);
  /** Affinity fields of CPU `index` (6 bits), as the boot tool lists them. */
  const affinityOf = (state: State, index: Term): Term => {
    const list = m.layout.constant("BOOT_INFO") + MPIDR_LIST;
    return word(state, add(bv(list, 32), concat(bv(0, 23), index, bv(0, 3))));
  };
  /** Firmware answers in the registers of the call. */
  const firmwareAnswers = (c: Clause) => c.havoc("linear", (key) => isHostReg(m, key, CALL_REGISTERS));
  return [
    {
      // Whether a number is one of `count` from `base` on.
      function: "psci/isIn",
      parameters: ["id", "base", "count"],
      spec(c) {
        const [id, base, count] = c.args as [Term, Term, Term];
        return ite(ult(sub(id, base), count), bv(1, 32), bv(0, 32));
      },
    },
    {
      // CPU_SUSPEND and SYSTEM_SUSPEND: the CPU comes back in the core, and then where the host asked in x`entry`.
      function: "psci/suspend",
      parameters: ["cpu", "entry"],
      forms: { 0: () => m.area },
      uses: {
        "lock/release": (one, args) =>
          one.oblige(
            "the CPU comes up where the host asked, or has done so",
            or(
              comesUp(one.state, m.area, args[1] as Term),
              eq(cpuField(one.state, m, "bootPending"), bv(0, 64)),
            ),
          ),
        smc: (one, args) =>
          one.oblige(
            "the CPU is expected, where the host asked",
            comesUp(one.state, m.area, args[1] as Term),
          ),
      },
      spec(c) {
        const entry = c.args[1] as Term;
        requireFree(c, "psciHeld");
        c.require("the CPU knows its number", knowsNumber(c.before, m));
        const call = functionOf(c.before, m);
        const isCall = (number: number, register: number) =>
          and(eq(call, bv(number, 64)), eq(entry, bv(register, 32)));
        c.require(
          "it is one of these calls, with its register of the entry point",
          or(isCall(CPU_SUSPEND, 2), isCall(SYSTEM_SUSPEND, 1)),
        );
        firmwareAnswers(c);
        // Seen under LOCK_PSCI.
        const isExpected = c.choose("it is expected", 0, (after) =>
          ne(cpuField(after, m, "bootPending"), bv(0, 64)),
        );
        c.ensure("a CPU that is on is not expected", not(isExpected));
      },
    },
    {
      // CPU_ON: the target comes up in the core, and then where the host asked.
      function: "psci/cpuOn",
      parameters: ["cpu"],
      forms: { 0: () => m.area },
      loops: {
        0: {
          invariant: (now, entry) => ({
            "there are so many CPUs": ule(now.locals[NEXT] as Term, bv(64, 32)),
            "none before is the one": implies(
              ult(zext(anyCpu, 32), now.locals[NEXT] as Term),
              ne(affinityOf(entry, anyCpu), entry.locals[AFFINITY] as Term),
            ),
          }),
          variant: (now) => sub(bv(64, 32), now.locals[NEXT] as Term),
        },
      },
      uses: {
        smc: (one) => {
          const [x1, x3] = [1, 3].map((n) => hostReg(one.state, m, n)) as [Term, Term];
          const index = extract(5, 0, x3);
          one.oblige("it is one of the CPUs", ult(x3, m.info("cpus")));
          one.oblige(
            "it is the CPU that the host names",
            and(eq(x1, argument(atCall, m, 1)), eq(affinityOf(one.state, index), x1)),
          );
          one.oblige(
            "the CPU comes up where the host asked",
            comesUp(one.state, cpuArea(m.layout, index), bv(2, 32)),
          );
        },
      },
      spec(c) {
        requireFree(c, "psciHeld");
        c.require("it is CPU_ON", eq(functionOf(c.before, m), bv(CPU_ON, 64)));
        firmwareAnswers(c);
        const target = argument(c.before, m, 1);
        const isAffinity = eq(band(target, bv(MASK & ~MPIDR_AFFINITY, 64)), bv(0, 64));
        const x0 = hostReg(c.state, m, 0);
        const same = (n: number) => eq(hostReg(c.state, m, n), hostReg(c.before, m, n));
        c.ensure(
          "what names no CPU is refused, and nothing else changes",
          implies(not(isAffinity), and(eq(x0, INVALID_PARAMS), same(1), same(2), same(3))),
        );
        c.can("there is no such CPU", and(isAffinity, eq(x0, INVALID_PARAMS)));
        const index = c.choose("the CPU's number", 32, (after) => after.locals[FOUND] as Term);
        const number = extract(5, 0, index);
        const isFound = ult(zext(index, 64), m.info("cpus"));
        // Seen under LOCK_PSCI; what others make of it afterwards is theirs.
        const isPending = c.choose("it waits to come up", 0, (after) =>
          eq(areaField(after, cpuArea(m.layout, number), "bootPending"), bv(1, 64)),
        );
        const isStarting = and(eq(x0, ALREADY_ON), same(1), same(2), same(3));
        c.ensure(
          "a CPU that there is is found",
          implies(
            and(isAffinity, not(isFound), ult(zext(anyCpu, 64), m.info("cpus"))),
            ne(affinityOf(c.before, anyCpu), target),
          ),
        );
        c.ensure(
          "a CPU is found by its affinity",
          implies(isFound, eq(affinityOf(c.before, number), target)),
        );
        c.ensure(
          "a CPU waits to come up after a call that succeeded, or is being started",
          implies(and(isFound, isPending), or(eq(x0, bv(0, 64)), isStarting)),
        );
        c.ensure("a CPU that starts is expected", implies(and(isFound, eq(x0, bv(0, 64))), isPending));
        c.can("it is being started already, and stays so", and(isFound, isPending, isStarting));
        c.can("it starts", eq(x0, bv(0, 64)));
      },
    },
    {
      // An SMC of the host: what is not known to be harmless is answered by the core.
      function: "psci/hostSmc",
      parameters: ["cpu"],
      forms: { 0: () => m.area },
      uses: {
        // What is refused is traced, and nothing else is.
        "trace/trace": (one) => {
          const id = band(hostReg(atCall, m, 0), bv(LOW_HALF, 64));
          const call = functionOf(atCall, m);
          const harmless = or(
            ...HARMLESS_PSCI.map((n) => eq(call, bv(0x8400_0000 + n, 64))),
            ...RANDOM.map((n) => eq(call, bv(n, 64))),
            ...ARCHITECTURAL.map((n) => eq(id, bv(n, 64))),
          );
          one.oblige("no harmless call is refused", not(harmless));
          const told = [id, hostReg(atCall, m, 1), hostReg(atCall, m, 2)];
          one.oblige(
            "the call is traced",
            and(...told.map((value, n) => eq(one.args[2 + n] as Term, value))),
          );
        },
      },
      spec(c) {
        requireFree(c, "psciHeld");
        c.require("the CPU knows its number", knowsNumber(c.before, m));
        firmwareAnswers(c);
        const id = band(hostReg(c.before, m, 0), bv(LOW_HALF, 64));
        const standard = ule(id, bv(0x8000_ffff, 64));
        const power = (number: Term) =>
          and(uge(number, bv(0x8400_0000, 64)), ule(number, bv(0x8400_0053, 64)));
        const isKnown = or(and(uge(id, bv(0x8000_0000, 64)), standard), power(functionOf(c.before, m)));
        const same = (n: number) => eq(hostReg(c.state, m, n), hostReg(c.before, m, n));
        c.ensure(
          "calls of other services are not supported, and change x0 alone",
          implies(
            not(isKnown),
            and(eq(hostReg(c.state, m, 0), NOT_SUPPORTED), ...[1, 2, 3, 4, 5, 6, 7, 8, 17].map(same)),
          ),
        );
        c.can("a call is refused", eq(hostReg(c.state, m, 0), NOT_SUPPORTED));
        c.can("a call succeeds", eq(hostReg(c.state, m, 0), bv(0, 64)));
      },
    },
  ];
}
