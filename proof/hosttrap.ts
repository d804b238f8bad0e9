/** Traps from the host: what it is given, and what it learns where it is given nothing. */
import {
  add,
  and,
  band,
  bor,
  bv,
  type Call,
  type Clause,
  type Contract,
  copyState,
  eq,
  extract,
  implies,
  ite,
  lshr,
  ne,
  not,
  or,
  type State,
  sext,
  shl,
  type Term,
  TRUE,
  ugt,
  ult,
  zext,
} from "../microv/index.ts";
import { useOwner } from "./donate.ts";
import { exceptionPstate, fromUser, isAArch32, pstateAfter, syncVector } from "./exception.ts";
import { classOf, faultIpa } from "./guesttrap.ts";
import { constants } from "./layout.ts";
import { holdingNothing, letsGo, requireNothingHeld } from "./lock.ts";
import { hostReg, isHostReg, setHostReg, thisCpu } from "./percpu.ts";
import { useVmRecord } from "./records.ts";
import { ghost, inRam, isCores, isPhysical, type Machine, OWNER_RESERVED, page, read } from "./state.ts";
import type { Core } from "./theory.ts";

const exceptionClass = constants("guesttrap.ts", "Class", 64);
const event = constants("trace.ts", "Event", 32);
const LIVE = constants("vm.ts", "Reclaim", 32)("LIVE");

const KERNEL_BIT = 55;
const CLASS_SHIFT = 26;
/** ESR_ELx.IL: a 32-bit instruction. */
export const IL = 1n << 25n;
const WNR = 1n << 6n;
const S1PTW_BIT = 7;
const CM_BIT = 8;
/** DC ZVA, X0. */
const DC_ZVA = 0xd50b_7420;
/** The local variable of emulateAccess that holds the instruction. */
const INSTRUCTION = 2;
/** Fault status codes at level 3: translation fault, permission fault, external abort on a walk. */
const TRANSLATION = 0x07;
const PERMISSION = 0x0f;
const EXTERNAL_WALK = 0x17;
/** An address that Linux never maps. */
const UNMAPPED = 8;

/** Registers of the host that taking an exception changes. */
export const EXCEPTION_REGISTERS = [
  "esr_el1",
  "far_el1",
  "elr_el1",
  "spsr_el1",
  "elr_el2",
  "spsr_el2",
] as const;

/**
 * What a load or store does: whether the core carries it out, loads zero into `targets`, and adds `offset` to its base, x`base`. Registers
 * are 5 bits.
 */
interface Access {
  readonly done: Term;
  readonly loads: Term;
  readonly targets: readonly Term[];
  readonly writesBack: Term;
  readonly base: Term;
  readonly offset: Term;
}

/** Whether the bits of an instruction from `high` to `low` are `value`. */
const bitsOf =
  (instruction: Term) =>
  (value: number, high: number, low = high): Term =>
    eq(extract(high, low, instruction), bv(value, high - low + 1));

/**
 * What an instruction of the class "load/store register pair" does, of general registers (Arm ARM C4.1.94). Not carried out: STGP,
 * encodings that are none, and write-back to the stack pointer.
 */
function pair(instruction: Term): Access {
  const are = bitsOf(instruction);
  const loads = are(1, 22);
  const isWide = are(0b10, 31, 30);
  const isSigned = and(are(0b01, 31, 30), loads, not(are(0b00, 24, 23)));
  const writesBack = are(1, 23);
  const isOne = or(are(0b00, 31, 30), isWide, isSigned);
  const offset = sext(extract(21, 15, instruction), 64);
  return {
    done: and(isOne, not(and(writesBack, are(0b11111, 9, 5)))),
    loads,
    targets: [extract(4, 0, instruction), extract(14, 10, instruction)],
    writesBack,
    base: extract(9, 5, instruction),
    offset: ite(isWide, shl(offset, bv(3, 64)), shl(offset, bv(2, 64))),
  };
}

/**
 * What an instruction of the class "load/store register" does, of one general register (Arm ARM C4.1.94). Not carried out: prefetches,
 * 64-byte accesses, authenticated loads, and write-back to the stack pointer.
 */
function single(instruction: Term): Access {
  const are = bitsOf(instruction);
  const unsigned = are(1, 24);
  const other = and(not(unsigned), are(1, 21));
  const isAtomic = and(other, are(0b00, 11, 10));
  const isRegisterOffset = and(other, are(0b10, 11, 10));
  // LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN; SWP; LDAPR.
  const atomic = or(are(0, 15), are(0b1000, 15, 12), are(0b1100, 15, 12));
  const signedTo64 = and(are(0b10, 23, 22), not(are(0b11, 31, 30)));
  const signedTo32 = and(are(0b11, 23, 22), are(0, 31));
  const plain = and(or(unsigned, not(other), isRegisterOffset), or(are(0, 23), signedTo64, signedTo32));
  const writesBack = and(not(unsigned), not(other), are(1, 10));
  const done = and(or(and(isAtomic, atomic), plain), not(and(writesBack, are(0b11111, 9, 5))));
  const loads = or(isAtomic, not(are(0b00, 23, 22)));
  return {
    done,
    loads,
    targets: [extract(4, 0, instruction)],
    writesBack,
    base: extract(9, 5, instruction),
    offset: sext(extract(20, 12, instruction), 64),
  };
}

/**
 * What `hostAbort` owes where it answers a translation fault: the host tries again where it got the page, or the page has changed hands; a
 * VM that is there, which keeps its page, is why an access is carried out in its stead.
 */
function reclaims(m: Machine): NonNullable<Contract["uses"]> {
  const found = ({ state }: Call) => {
    const [, , ipa, , owner, slot, outcome] = state.locals as [Term, Term, Term, Term, Term, Term, Term];
    return {
      inRam: and(isPhysical(ipa), inRam(m, page(ipa))),
      isVms: ugt(owner, zext(OWNER_RESERVED, 64)),
      isGone: eq(slot, bv(0, 32)),
      isLive: eq(outcome, LIVE),
      stays: eq(ghost(state, "lastOwner"), owner),
      obtained: ghost(state, "obtained"),
    };
  };
  return {
    "trace/trace": (call) => {
      const { inRam, isVms, isGone, stays, obtained } = found(call);
      call.oblige(
        "the host tries again where it may have the page, or somebody else",
        implies(
          eq(call.args[1] as Term, event("PAGE_RETURNED")),
          and(inRam, or(not(stays), obtained, and(isVms, isGone))),
        ),
      );
    },
    "hosttrap/emulateAccess": (call) => {
      const { inRam, isVms, stays, obtained } = found(call);
      call.oblige("an access to a VM's page is carried out", and(inRam, isVms, stays, not(obtained)));
    },
    "hosttrap/injectAbort": (call, [, esr]) => {
      const { inRam, isVms, isLive, stays, obtained } = found(call);
      const kept = and(stays, not(obtained), eq(isVms, isLive));
      const isTranslation = eq(extract(5, 2, esr as Term), bv(1, 4));
      call.oblige("what the host does not get is somebody else's", implies(and(isTranslation, inRam), kept));
    },
  };
}

export function hosttrapContracts({ m, registers }: Core): Contract[] {
  /** The host takes an exception with this syndrome and fault address (Arm ARM AArch64.TakeException). */
  const takesException = (state: State, syndrome: Term, far: Term) => {
    const before = copyState(state);
    const get = (name: string) => registers.get(before, name);
    const pstate = get("spsr_el2");
    registers.set(state, "esr_el1", syndrome);
    registers.set(state, "far_el1", far);
    registers.set(state, "elr_el1", get("elr_el2"));
    registers.set(state, "spsr_el1", pstate);
    registers.set(state, "elr_el2", syncVector(get("vbar_el1"), pstate));
    registers.set(state, "spsr_el2", exceptionPstate(pstate, get("sctlr_el1")));
  };
  /** The host takes an abort of the class of `esr` for an access to `far`. */
  const aborts = (state: State, esr: Term, far: Term) => {
    const user = fromUser(registers.get(state, "spsr_el2"));
    const kernelAddress = eq(extract(KERNEL_BIT, KERNEL_BIT, far), bv(1, 1));
    const walk = eq(extract(S1PTW_BIT, S1PTW_BIT, esr), bv(1, 1));
    const kind = zext(extract(31, CLASS_SHIFT, esr), 64);
    const same = ite(user, bv(0, 64), bv(1, 64));
    const status = ite(
      kernelAddress,
      ite(walk, bv(EXTERNAL_WALK, 64), bv(PERMISSION, 64)),
      bv(TRANSLATION, 64),
    );
    const fields = bor(bor(bv(IL, 64), band(esr, bv(WNR, 64))), status);
    const syndrome = bor(shl(add(kind, same), bv(CLASS_SHIFT, 64)), fields);
    takesException(state, syndrome, ite(kernelAddress, far, bv(UNMAPPED, 64)));
  };
  /** Does to the host's registers what an access does that is carried out, if `condition`. */
  const carryOut = (c: Clause, access: Access, condition: Term = TRUE) => {
    const { done, loads, targets, writesBack, base, offset } = access;
    const moved = add(hostReg(c.before, m, base), offset);
    setHostReg(c.state, m, base, moved, and(condition, done, writesBack));
    for (const target of targets)
      setHostReg(c.state, m, target, bv(0, 64), and(condition, done, loads, ne(target, bv(31, 5))));
  };
  /** Whether the host goes on behind the instruction that trapped. */
  const goesOn = (c: Clause) => {
    const [elr, pstate] = ["elr_el2", "spsr_el2"].map((name) => registers.get(c.before, name)) as [
      Term,
      Term,
    ];
    const now = (name: string) => registers.get(c.state, name);
    return and(
      eq(now("elr_el2"), add(elr, bv(4, 64))),
      implies(not(isAArch32(pstate)), eq(now("spsr_el2"), pstateAfter(pstate))),
    );
  };
  return [
    {
      // Five bits of an instruction.
      function: "hosttrap/field",
      parameters: ["instruction", "shift"],
      spec(c) {
        const [instruction, shift] = c.args as [Term, Term];
        c.require("the field lies in the instruction", ult(shift, bv(28, 32)));
        return band(lshr(instruction, shift), bv(31, 32));
      },
    },
    {
      // A register of the host becomes zero, but for the zero register.
      function: "hosttrap/loadZero",
      parameters: ["cpu", "n"],
      forms: { 0: () => m.area },
      spec(c) {
        const n = c.args[1] as Term;
        c.require("it is a register", ult(n, bv(32, 32)));
        setHostReg(c.state, m, extract(4, 0, n), bv(0, 64), ne(n, bv(31, 32)));
      },
    },
    {
      // The offset is added to a register of the host, unless that is the stack pointer.
      function: "hosttrap/writeBack",
      parameters: ["cpu", "n", "offset"],
      forms: { 0: () => m.area },
      spec(c) {
        const [, n, offset] = c.args as [Term, Term, Term];
        c.require("it is a register", ult(n, bv(32, 32)));
        const kept = ne(n, bv(31, 32));
        const index = extract(4, 0, n);
        setHostReg(c.state, m, index, add(hostReg(c.before, m, index), offset), kept);
        c.can("the base is a general register", kept);
        c.can("the base is the stack pointer", not(kept));
        return ite(kept, bv(1, 32), bv(0, 32));
      },
    },
    {
      // Carries out a load or store of one general register as if memory were zero and read-only (Arm ARM C4.1.94).
      function: "hosttrap/emulateSingle",
      parameters: ["cpu", "instruction"],
      forms: { 0: () => m.area },
      spec(c) {
        const access = single(c.args[1] as Term);
        const { done, loads, writesBack } = access;
        carryOut(c, access);
        c.can("a store is done", and(done, not(loads)));
        c.can("a load with write-back is done", and(done, loads, writesBack));
        c.can("it is not done", not(done));
        return ite(done, bv(1, 32), bv(0, 32));
      },
    },
    {
      // The host goes on behind the instruction that trapped.
      function: "hosttrap/skipInstruction",
      spec(c) {
        const pstate = registers.get(c.before, "spsr_el2");
        registers.set(c.state, "elr_el2", add(registers.get(c.before, "elr_el2"), bv(4, 64)));
        const after = c.choose("PSTATE", 64, (state) => registers.get(state, "spsr_el2"));
        c.ensure(
          "BTYPE and single step end",
          implies(not(isAArch32(pstate)), eq(after, pstateAfter(pstate))),
        );
        registers.set(c.state, "spsr_el2", after);
      },
    },
    {
      // Whether a context is user space.
      function: "hosttrap/fromUser",
      parameters: ["pstate"],
      spec: (c) => ite(fromUser(c.args[0] as Term), bv(1, 32), bv(0, 32)),
    },
    {
      // The host takes a synchronous exception.
      function: "hosttrap/inject",
      parameters: ["esr", "far"],
      spec(c) {
        const [syndrome, far] = c.args as [Term, Term];
        takesException(c.state, syndrome, far);
      },
    },
    {
      // An access of the host ends in an abort of the same class: a fault of the kernel's own where the kernel's address says so, else one at
      // an address that no mapping can have.
      function: "hosttrap/injectAbort",
      parameters: ["esr", "far"],
      spec(c) {
        const [esr, far] = c.args as [Term, Term];
        const user = fromUser(registers.get(c.before, "spsr_el2"));
        const kernelAddress = eq(extract(KERNEL_BIT, KERNEL_BIT, far), bv(1, 1));
        aborts(c.state, esr, far);
        c.can("user space is told", user);
        c.can("the kernel is told", and(not(user), kernelAddress));
      },
    },
    {
      // Carries out an access of the host's kernel as if memory were zero and read-only, or says no, with nothing changed.
      function: "hosttrap/emulateAccess",
      parameters: ["cpu", "esr"],
      forms: { 0: thisCpu(m) },
      given: holdingNothing,
      uses: {
        "hostmem/translate": (one) =>
          one.oblige(
            "it is the instruction that trapped",
            eq(one.args[0] as Term, band(registers.get(one.state, "elr_el2"), bv(-4, 64))),
          ),
      },
      spec(c) {
        requireNothingHeld(c);
        const instruction = c.choose("instruction", 32, (after) => after.locals[INSTRUCTION] as Term);
        const are = bitsOf(instruction);
        const [isPair, isSingle] = [are(0b10100, 29, 25), are(0b11100, 29, 25)];
        const [two, one] = [pair(instruction), single(instruction)];
        const maintains = or(
          eq(extract(CM_BIT, CM_BIT, c.args[1] as Term), bv(1, 1)),
          are(DC_ZVA >>> 5, 31, 5),
        );
        const isDone = or(
          and(isPair, two.done),
          and(isSingle, one.done),
          and(not(isPair), not(isSingle), maintains),
        );
        carryOut(c, two, isPair);
        carryOut(c, one, isSingle);
        c.havoc("registers", (key) => and(isDone, registers.among(key, ["elr_el2", "spsr_el2"])));
        c.ensure("the host goes on behind it", implies(isDone, goesOn(c)));
        c.can("a pair is loaded, and its base moves", and(isPair, two.done, two.loads, two.writesBack));
        c.can("a pair is stored", and(isPair, two.done, not(two.loads)));
        c.can("one register is loaded", and(isSingle, one.done, one.loads));
        c.can("a cache line is maintained", and(not(isPair), not(isSingle), isDone));
        c.can("it is not done", not(isDone));
        return ite(isDone, bv(1, 32), bv(0, 32));
      },
    },
    {
      // A stage 2 fault of the host: it may have the page and tries again; or the kernel's access to a live private VM's page is carried out as
      // if the page were zero; or it ends in an abort.
      function: "hosttrap/hostAbort",
      parameters: ["cpu", "esr"],
      forms: { 0: thisCpu(m) },
      given: holdingNothing,
      uses: {
        ...reclaims(m),
        s2page_read: useOwner(m),
        ...Object.fromEntries(
          ["lock/acquire", "memory/withdraw", "memory/giveToHost"].map((name) => [
            name,
            (call: Call) => useVmRecord(call, m, extract(7, 0, call.state.locals[4] as Term)),
          ]),
        ),
      },
      spec(c) {
        const esr = c.args[1] as Term;
        requireNothingHeld(c);
        letsGo(c);
        const { before, state } = c;
        const get = (name: string) => registers.get(before, name);
        const far = get("far_el2");
        c.havoc("linear", (key) => isHostReg(m, key));
        c.havoc("registers", (key) => registers.among(key, EXCEPTION_REGISTERS));
        const same = (names: readonly string[]) =>
          and(...names.map((name) => eq(registers.get(state, name), get(name))));
        const again = same(EXCEPTION_REGISTERS);
        const kernelData = and(
          eq(classOf(esr), exceptionClass("DATA_ABORT_LOWER")),
          eq(extract(KERNEL_BIT, KERNEL_BIT, far), bv(1, 1)),
          eq(extract(S1PTW_BIT, S1PTW_BIT, esr), bv(0, 1)),
          not(fromUser(get("spsr_el2"))),
        );
        const emulated = and(kernelData, goesOn(c), same(["esr_el1", "far_el1", "elr_el1", "spsr_el1"]));
        const wanted = copyState(before);
        aborts(wanted, esr, far);
        const refused = and(
          ...EXCEPTION_REGISTERS.map((name) => eq(registers.get(state, name), registers.get(wanted, name))),
        );
        c.ensure("it tries again, or goes on, or takes an abort", or(again, emulated, refused));
        c.ensureAll("only an access that is carried out changes registers", "linear", (key, now) =>
          or(emulated, eq(read(now, "linear", key), read(before, "linear", key))),
        );
        const target = faultIpa(get("hpfar_el2"));
        c.ensure(
          "an access to the core's memory is refused",
          implies(and(isPhysical(target), isCores(m, page(target))), refused),
        );
        c.ensure(
          "what is no translation fault is refused",
          implies(ne(extract(5, 2, esr), bv(1, 4)), refused),
        );
        c.can("it tries again", and(again, not(refused)));
        c.can("it is carried out", and(emulated, not(refused), not(again)));
        c.can("it is refused", and(refused, not(again)));
      },
    },
  ];
}
