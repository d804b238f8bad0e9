/** Calls of the host: each does what it is for and answers in x0 and x1; what the core does not know is not supported. */
import {
  add,
  and,
  band,
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
import { Forgotten, isTakenBack, obligeForgotten, obligeTakenBack, somewhere } from "./flush.ts";
import { RESUME_GUEST, RESUME_HOST } from "./guesttrap.ts";
import { linked, roots, vcpuField } from "./invariants.ts";
import { constants } from "./layout.ts";
import { isBootField, vcpuIndex } from "./linear.ts";
import { holdingNothing, holdRecord, letsGo, requireNothingHeld } from "./lock.ts";
import { cpuField, cpuKey, hostKey, hostReg, isHostReg, setHostReg, thisCpu } from "./percpu.ts";
import { useVmRecord, vcpuAt } from "./records.ts";
import { ghost, page, setGhost, word } from "./state.ts";
import type { Core } from "./theory.ts";
import { guestRuns, hostKeeps, hostRuns } from "./vcpu.ts";

const exit = constants("vcpu.ts", "Exit", 64);
const call = constants("hostcall.ts", "Call", 64);

export function hostcallContracts({ m, registers }: Core): Contract[] {
  const x = (c: Clause, n: number) => hostReg(c.before, m, n);
  /** Number of the host's call, among KVM's. */
  const numberOf = (state: State): Term =>
    sub(band(hostReg(state, m, 0), bv(0xffff_ffffn & ~(1n << 16n), 64)), bv(0xc600_0000, 64));
  /** The arguments are those of the host: x1 and up. */
  const passesOn = (one: Call): void => {
    for (const [n, arg] of one.args.entries())
      one.oblige(`x${n + 1} is passed on`, eq(arg, hostReg(one.state, m, n + 1)));
  };
  /** The host makes its call once more, if `condition`, with `progress` (32 bits) to go on from. */
  const again = (c: Clause, progress: Term, condition: Term = TRUE) => {
    const elr = registers.get(c.before, "elr_el2");
    setHostReg(c.state, m, 0, concat(progress, extract(31, 0, x(c, 0))), condition);
    registers.set(c.state, "elr_el2", sub(elr, bv(4, 64)), condition);
  };
  /** What becomes of the state when the host runs a vCPU, if `condition`. The result is where to go on. */
  const runs = (c: Clause, condition: Term): Term => {
    const { before, state } = c;
    c.require("the host runs", hostRuns(before, m, registers));
    const result = c.result(32);
    const entered = and(condition, eq(result, RESUME_GUEST));
    const refused = and(condition, eq(result, RESUME_HOST));
    c.ensure("it says where to go on", or(eq(result, RESUME_GUEST), eq(result, RESUME_HOST)));
    c.can("the guest goes on", entered);
    c.can("the host goes on", refused);
    letsGo(c);
    const index = c.choose("vCPU", 10, (after) => extract(16, 7, cpuField(after, m, "running")));
    holdRecord(c, m, index, entered);
    c.havoc("registers", () => entered);
    const inArea = (key: Term) => eq(extract(28, 9, key), extract(31, 12, m.area));
    c.havoc("linear", (key) =>
      and(entered, inArea(key), not(isBootField(concat(key, bv(0, 3)))), not(isHostReg(m, key))),
    );
    c.havoc("linear", (key) => and(condition, eq(key, cpuKey(m, "lastVcpu"))));
    setHostReg(state, m, 0, bv(0, 64), condition);
    const code = c.choose("code", 64, (after) => hostReg(after, m, 1));
    setHostReg(state, m, 1, code, refused);
    c.ensure(
      "a refusal has its code",
      implies(refused, or(eq(code, exit("TRAP")), eq(code, exit("ILLEGAL")))),
    );
    c.can("the host is to resolve a fault", and(refused, eq(code, exit("TRAP"))));
    c.can("it fails", and(refused, eq(code, exit("ILLEGAL"))));
    const vcpu = vcpuAt(m, index);
    c.ensure("the guest's context is in the machine", implies(entered, guestRuns(state, m, registers, vcpu)));
    hostKeeps(c, m, registers, vcpu, { before: FALSE, after: TRUE }, entered);
    c.ensure(
      "it is the vCPU that the host names",
      implies(entered, and(ne(x(c, 1), bv(0, 64)), eq(word(state, vcpuField(m, index, "hva")), x(c, 1)))),
    );
    return result;
  };
  return [
    {
      // Lets the host make its call once more.
      function: "hostcall/restart",
      parameters: ["cpu", "progress"],
      forms: { 0: thisCpu(m) },
      spec: (c) => again(c, extract(31, 0, c.args[1] as Term)),
    },
    {
      // Takes back a range of a VM's mappings, a step a call: x0 is 0 at the end, or says how far it got.
      function: "hostcall/flush",
      parameters: ["cpu", "mmuVa", "start", "end"],
      forms: { 0: thisCpu(m) },
      given: holdingNothing,
      uses: {
        "vm/flushRange": (one, [, mmuVa, start, end]) => {
          const [mmu, from, to] = one.args as [Term, Term, Term];
          const progress = extract(63, 32, hostReg(one.state, m, 0));
          const reached = add(regionOf(start as Term), concat(bv(0, 11), progress, bv(0, 21)));
          one.oblige("it is that VM", eq(mmu, mmuVa as Term));
          one.oblige(
            "it goes on from where it came to",
            eq(from, ite(eq(progress, bv(0, 32)), start as Term, reached)),
          );
          one.oblige("it goes on to the end", eq(to, end as Term));
        },
      },
      spec(c) {
        const [, mmuVa, start, end] = c.args as [Term, Term, Term, Term];
        requireNothingHeld(c);
        letsGo(c);
        setGhost(c.state, "sought", sub(mmuVa, m.profile("mmu")));
        const next = c.choose("next", 64, (after) => ghost(after, "flushedTo"));
        setGhost(c.state, "flushedTo", next);
        const done = ule(end, next);
        const progress = extract(52, 21, sub(next, regionOf(start)));
        setHostReg(c.state, m, 0, bv(0, 64), done);
        again(c, progress, not(done));
        c.can("it is done", done);
        c.can("it goes on", not(done));
      },
    },
    {
      // The calls that set up, account or end. 0, with nothing changed, for any other.
      function: "hostcall/manage",
      parameters: ["cpu", "call"],
      forms: { 0: thisCpu(m) },
      given: holdingNothing,
      uses: {
        "vm/initVmLocked": passesOn,
        "vm/initVcpuLocked": passesOn,
        "vm/teardownLocked": passesOn,
      },
      spec(c) {
        const number = c.args[1] as Term;
        const { before, state } = c;
        requireNothingHeld(c);
        letsGo(c);
        const is = (name: string) => eq(number, call(name));
        const known = or(ule(number, call("HOST_UNSHARE_HYP")), is("VCPU_INIT_TRAPS"), ...LIFE.map(is));
        const restarts = c.choose("it restarts", 0, (after) =>
          ne(registers.get(after, "elr_el2"), registers.get(before, "elr_el2")),
        );
        c.ensure("only the end of a VM takes steps", implies(restarts, is("TEARDOWN_VM")));
        const answered = and(known, not(restarts));
        c.havoc("linear", (key) => and(answered, eq(key, hostKey(m, 1))));
        setHostReg(state, m, 0, bv(0, 64), answered);
        again(c, bv(0, 32), restarts);
        const x1 = hostReg(state, m, 1);
        const answers = (name: string, value: Term) =>
          c.ensure(`${name} is answered`, implies(is(name), eq(x1, value)));
        answers("GET_MDCR_EL2", cpuField(before, m, "hostMdcr"));
        answers("VGIC_GET_GIC_CONFIG", registers.get(before, "ich_vtr_el2"));
        answers("CREATE_PRIVATE_MAPPING", bv(-12, 64));
        const isLr = (n: number) =>
          and(is("VGIC_INIT_LRS"), ule(bv(n, 64), cpuField(before, m, "lastListRegister")));
        for (let n = 0; n < 16; n++) registers.set(state, `ich_lr${n}_el2`, bv(0, 64), isLr(n));
        c.can("the call is none of these", not(known));
        c.can("the call is made again", restarts);
        c.can("a VM is announced", and(is("INIT_VM"), eq(extract(63, 63, x1), bv(0, 1))));
        c.can("a VM is refused", and(is("INIT_VM"), eq(extract(63, 63, x1), bv(1, 1))));
        return ite(known, bv(1, 32), bv(0, 32));
      },
    },
    {
      // Runs a vCPU: the guest is in the machine, its vCPU held, the host's registers put away; or x1 says why not, and nothing else changed
      // but what is noted of the fault that the host was asked to resolve.
      function: "hostcall/vcpuRun",
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      given: holdingNothing,
      uses: {
        host_write64: (one) => {
          const held = vcpuIndex(extract(31, 0, cpuField(one.state, m, "lastVcpu")));
          one.oblige(
            "a fault that the host is told of stays",
            ne(word(one.state, vcpuField(m, held, "fault")), bv(0, 64)),
          );
        },
      },
      spec(c) {
        requireNothingHeld(c);
        return runs(c, TRUE);
      },
    },
    {
      // A call of the host. What the core does not know is not supported; no call changes more of the host's registers than x0 and x1, and ELR_EL2
      // where it is made again.
      function: "hostcall/hostCall",
      parameters: ["cpu"],
      forms: { 0: thisCpu(m) },
      given: holdingNothing,
      uses: {
        ...Object.fromEntries(
          ["npt/nptWalk", "npt/nptRoot", "memory/dropLeaf", "lock/acquire"].map((name) => [
            name,
            (one: Call) => {
              const lock = one.args[0] as Term;
              const slot = name === "lock/acquire" ? extract(7, 0, lock) : ghost(one.state, "root");
              useVmRecord(one, m, slot);
            },
          ]),
        ),
        "vm/holdVcpu": (one) => {
          const [hva] = one.args as [Term];
          const named = hostReg(one.state, m, 1);
          one.oblige(
            "it is the vCPU that the host names, or has its interrupt controller",
            or(eq(hva, named), eq(hva, sub(named, m.profile("vgicV3")))),
          );
        },
        "memory/retainEntries": (one) => {
          useVmRecord(one, m, ghost(one.state, "root"));
          const table = page(one.args[0] as Term);
          one.assume(and(linked(one.state, m, table), roots(one.state, m, table)));
        },
        pt_read: (one) => one.assume(linked(one.state, m, page(one.args[0] as Term))),
        tlbi_vmalle1: (one) =>
          one.oblige("it forgets what it cached for a VM", ne(ghost(one.state, "named"), bv(0, 64))),
        "lock/release": (one) => {
          const number = numberOf(one.state);
          const ipa = hostReg(one.state, m, 2);
          obligeTakenBack(one, m, (root) =>
            and(
              implies(eq(number, call("TLB_FLUSH_VMID")), isTakenBack(one.state, m, root, somewhere, 2)),
              implies(
                and(isIpaFlush(number), eq(zext(somewhere, 52), extract(63, 12, ipa))),
                isTakenBack(one.state, m, root, somewhere, 3),
              ),
            ),
          );
          const level = hostReg(one.state, m, 3);
          one.oblige(
            "more than a page is taken back as a whole",
            implies(isIpaFlush(number), and(ne(level, bv(1, 64)), ne(level, bv(2, 64)))),
          );
          obligeForgotten(one, m, eq(number, call("FLUSH_CPU_CONTEXT")));
        },
        "hostcall/flush": (one) => {
          const [, mmu, start, end] = one.args as [Term, Term, Term, Term];
          const [named, first, third] = [1, 2, 3].map((n) => hostReg(one.state, m, n)) as [Term, Term, Term];
          one.oblige("it is the VM whose MMU the host names", eq(mmu, named));
          const isRange = eq(numberOf(one.state), call("TLB_FLUSH_VMID_RANGE"));
          const range = and(eq(start, first), eq(end, add(first, shl(third, bv(12, 64)))));
          one.oblige("the host's range is taken back", implies(isRange, range));
          const block = (level: number, bits: number) =>
            implies(
              eq(third, bv(level, 64)),
              and(eq(start, blockOf(first, bits)), eq(end, add(blockOf(first, bits), bv(1 << bits, 64)))),
            );
          one.oblige(
            "a block around the host's address is taken back",
            or(isRange, and(or(eq(third, bv(1, 64)), eq(third, bv(2, 64))), block(1, 30), block(2, 21))),
          );
        },
      },
      spec(c) {
        const { before, state } = c;
        requireNothingHeld(c);
        const id = x(c, 0);
        const number = numberOf(before);
        const is = (name: string) => eq(number, call(name));
        const isRun = is("VCPU_RUN");
        const other = not(isRun);
        const result = runs(c, isRun);
        c.ensure("only a vCPU's run leaves the host", implies(other, eq(result, RESUME_HOST)));

        const restarts = c.choose("it restarts", 0, (after) =>
          and(other, ne(registers.get(after, "elr_el2"), registers.get(before, "elr_el2"))),
        );
        c.ensure(
          "only calls that take steps are made again",
          implies(restarts, and(other, or(...STEPWISE.map(is)))),
        );
        const elr = registers.get(before, "elr_el2");
        registers.set(state, "elr_el2", sub(elr, bv(4, 64)), restarts);
        registers.set(state, "cntvoff_el2", x(c, 1), is("TIMER_SET_CNTVOFF"));
        c.havoc("registers", (key) =>
          or(
            and(is("VGIC_RESTORE_VMCR_APRS"), registers.among(key, INTERFACE)),
            and(is("VGIC_INIT_LRS"), registers.among(key, LISTS)),
          ),
        );
        const isHold = or(is("VGIC_SAVE_VMCR_APRS"), is("VGIC_RESTORE_VMCR_APRS"));
        c.havoc("linear", (key) => and(isHold, eq(key, cpuKey(m, "lastVcpu"))));

        const sought = sub(x(c, 1), m.profile("mmu"));
        const isFlush = or(
          isIpaFlush(number),
          ...["TLB_FLUSH_VMID", "TLB_FLUSH_VMID_RANGE", "FLUSH_CPU_CONTEXT"].map(is),
        );
        c.havocGhost("sought");
        c.ensure(
          "the VM is found whose MMU the host names",
          implies(isFlush, eq(ghost(state, "sought"), sought)),
        );
        c.havocGhost("forgot");
        c.ensure(
          "a new generation of VMIDs finds nothing",
          implies(is("FLUSH_VM_CONTEXT"), eq(ghost(state, "forgot"), Forgotten.EVERYTHING)),
        );

        const known = ule(number, call("TEARDOWN_VM"));
        const stub = and(not(known), ult(id, bv(STUB_CALLS, 64)));
        const isReset = or(eq(id, bv(0, 64)), eq(id, bv(2, 64)));
        const answer = ite(
          known,
          bv(0, 64),
          ite(stub, ite(isReset, bv(0, 64), bv(STUB_ERROR, 64)), bv(-1, 64)),
        );
        const progress = c.choose("progress", 32, (after) => extract(63, 32, hostReg(after, m, 0)));
        const value = ite(restarts, concat(progress, extract(31, 0, id)), answer);
        setHostReg(state, m, 0, value, other);
        const manages = or(ule(number, call("HOST_UNSHARE_HYP")), is("VCPU_INIT_TRAPS"), ...LIFE.map(is));
        c.havoc("linear", (key) => and(manages, eq(key, hostKey(m, 1))));
        c.can("a call is not supported", and(not(known), not(stub)));
        c.can("a stub call is answered", stub);
        c.can("a call is made again", restarts);
        c.can("a call is done", and(other, known, not(restarts)));
        return result;
      },
    },
  ];
}

/** The block of 2^`bits` bytes that an address lies in, and the one in steps of which a flush goes on. */
const blockOf = (address: Term, bits: number): Term => concat(extract(63, bits, address), bv(0, bits));
const regionOf = (address: Term): Term => blockOf(address, 21);
const isIpaFlush = (number: Term): Term =>
  or(...["TLB_FLUSH_VMID_IPA", "TLB_FLUSH_VMID_IPA_NSH"].map((name) => eq(number, call(name))));
const STUB_CALLS = 8;
const STUB_ERROR = 0xbadca11;
/** Calls that take steps. */
const STEPWISE = ["TLB_FLUSH_VMID_IPA", "TLB_FLUSH_VMID_IPA_NSH", "TLB_FLUSH_VMID_RANGE", "TEARDOWN_VM"];
/** What a vCPU's interrupt controller has beside list registers. */
const INTERFACE = ["ich_vmcr_el2", ...[0, 1, 2, 3].flatMap((n) => [`ich_ap0r${n}_el2`, `ich_ap1r${n}_el2`])];
const LISTS = Array.from({ length: 16 }, (_, n) => `ich_lr${n}_el2`);
/** Calls that make or end VMs and vCPUs. */
const LIFE = ["INIT_VM", "INIT_VCPU", "TEARDOWN_VM"];
