/**
 * Life and death of VMs and vCPUs: who exists, and what of the host's memory is held in place for them. LOCK_VMS guards it.
 *
 * A record pins the structures of the host that it names. While the record is made or freed its pins float (`hostmem.ts`).
 */
import {
  add,
  and,
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
  variable,
  zext,
} from "../microv/index.ts";
import { finds, heard, hears, wasTold } from "./dialogue.ts";
import {
  emptyTree,
  kvmHeld,
  LISTS,
  leadsTo,
  linked,
  listFits,
  RECORDS,
  structureOf,
  sveBytes,
  tablesFit,
  vcpuField,
  vcpuListed,
  vcpuRecord,
  vmField,
  vmList,
  vmRecord,
} from "./invariants.ts";
import { field } from "./layout.ts";
import { vcpuIndex, vmIndex } from "./linear.ts";
import {
  holdingNothing,
  holdRecord,
  letsGo,
  lockFree,
  othersRun,
  requireFree,
  requireNothingHeld,
  stays,
  touches,
  whileOthersRun,
} from "./lock.ts";
import { useVmRecord, vcpuAt, vmAt, vmForm } from "./records.ts";
import {
  ghost,
  holds,
  isAligned,
  isHosts,
  isMine,
  isPhysical,
  isRootPage,
  type Machine,
  type MemoryName,
  memory,
  only,
  page,
  positionKey,
  read,
  requireNothingStale,
  rewrite,
  rootOf,
  rootPage,
  setGhost,
  startLevel,
  tree,
  Use,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";
import { flushed } from "./tlb.ts";

/** States of a VM record. */
export const VmState = { FREE: bv(0, 64), ACTIVE: bv(1, 64), DYING: bv(2, 64) };

const ENOENT = -2;
const ENOMEM = -12;
const EBUSY = -16;
const EEXIST = -17;
const EINVAL = -22;
const ERESTART = -85;

/** VTCR_EL2 for `bits` of input address: inner shareable write-back walks, 4 KiB granule, `range` as PS (Arm ARM D24.2.208). */
export function vtcrFor(bits: Term, range: Term): Term {
  const sl0 = ite(eq(startLevel(bits), bv(0, 2)), bv(2, 2), bv(1, 2));
  const fixed = bv((1n << 31n) | (3n << 12n) | (1n << 10n) | (1n << 8n), 64);
  const fields = bor(shl(zext(range, 64), bv(16, 64)), shl(zext(sl0, 64), bv(6, 64)));
  return bor(bor(fixed, fields), sub(bv(64, 64), bits));
}

/** A state in which this CPU holds LOCK_VMS and nothing else. */
export function holdingVms(state: State): void {
  holdingNothing(state);
  state.ghosts.vmsHeld = TRUE;
}

/** Demands a state as `holdingVms` makes it. */
export function requireVmsAlone(c: Clause, m: Machine): void {
  requireFree(c, "rootHeld");
  c.require("LOCK_VMS is held", ghost(c.before, "vmsHeld"));
  c.require("LOCK_PSCI is not held", not(ghost(c.before, "psciHeld")));
  requireNothingStale(c);
  for (const name of ["vcpuHeld", "vmHeld", "accessible"] as const)
    c.requireAll(`no ${name} record or page is held`, name, (key) => not(holds(c.before, name, key)));
  c.requireAll("no pin floats", "floating", (key) => eq(read(c.before, "floating", key), bv(0, 8)));
  c.require("the tables are as long as they say", tablesFit(c.before, m));
}

/** Uses what holds of every record and tree at the keys at which this function is shown to keep it. */
function recallRecords(c: Clause, m: Machine): void {
  for (const name of ["any vcpuHeld", "any vcpuRank"])
    c.recall((state) => {
      const index = variable(name, 10);
      return and(vcpuRecord(state, m, index), vcpuListed(state, m, index));
    });
  c.recall((state) => vmList(state, m, extract(23, 16, variable("any vcpuAtRank", 24))));
  c.recall((state) => emptyTree(state, m, variable("any pt", 45)));
  for (const name of ["any use", "any level"])
    c.recall((state) => emptyTree(state, m, concat(variable(name, 36), bv(0, 9))));
}

/**
 * Promises that the invariants about whole trees and owners outlive a change of who exists, at arbitrary entries; what else they lead to is
 * used of the state before.
 */
function keepsStructure(c: Clause, m: Machine, slot: Term): void {
  const root = rootPage(m, slot);
  for (const { name, memory: where, at } of structureOf(m)) {
    const key = variable(`any ${where}`, memory(c.before, where as MemoryName).keyWidth);
    c.recall((state) => at(state, key));
    c.ensureAll(`kept: ${name}`, where, (one, now) => at(now, one));
  }
  const x = extract(35, 0, variable("any mapped", 44));
  for (const key of [
    concat(root, extract(35, 27, x)),
    concat(extract(35, 1, root), extract(27, 27, x), extract(26, 18, x)),
  ])
    c.recall((state) => emptyTree(state, m, key));
}

/** Number of any vCPU record: what is stated of it holds of all. */
const anyVcpu = variable("any vcpuRank", 10);

export function vmContracts(core: Core): Contract[] {
  const { m } = core;
  const coreWord = (state: State, name: string) =>
    word(state, m.layout.constant("CORE_STATE") + field.core(name));
  const vm = (state: State, slot: Term, name: string) => word(state, vmField(m, slot, name));
  const vcpu = (state: State, index: Term, name: string) => word(state, vcpuField(m, index, name));
  const local = (state: State, index: number) => state.locals[index] as Term;

  /** Whether a VM may start in a slot: it is free, and its handles are not used up. */
  const mayStart = (state: State, slot: Term) =>
    and(
      eq(vm(state, slot, "state"), VmState.FREE),
      ult(lshr(vm(state, slot, "handle"), bv(8, 64)), bv(0xffff, 64)),
    );
  const isHandle = (result: Term) => eq(extract(63, 63, result), bv(0, 1));
  const mine = (slot: Term) => (table: Term) => isRootPage(m, slot, table);

  /** Ghost: the VM of handle `result`, if it is one, comes into being: its empty tree starts at its level, its record accounts for its pin. */
  function create(state: State, result: Term): void {
    const done = isHandle(result);
    const slot = extract(7, 0, result);
    const at = (name: string) => vm(state, slot, name);
    const level = startLevel(at("ipaBits"));
    const base = (second: Term) =>
      ite(eq(level, bv(0, 2)), concat(second, bv(0, 36)), concat(bv(0, 9), second, bv(0, 27)));
    const root = rootPage(m, slot);
    rewrite(state, "level", mine(slot), () => level, done);
    rewrite(state, "base", mine(slot), (table) => base(extract(0, 0, table)), done);
    for (const second of [0, 1])
      write(
        state,
        "position",
        positionKey(slot, level, base(bv(second, 1))),
        bor(root, bv(second, 36)),
        done,
      );
    rewrite(
      state,
      "mapped",
      (key) => eq(extract(43, 36, key), slot),
      () => bv(0, 1),
      done,
    );
    write(state, "isPrivate", slot, extract(0, 0, at("privateMemory")), done);
    write(state, "handle", slot, extract(23, 0, result), done);
    write(state, "alive", slot, bv(1, 1), done);
  }

  /** Uses that the record of a VM agrees while LOCK_VMS is held: that of the slot in the low bits of `which`. */
  const useRecord = (which: (call: Call) => Term) => (call: Call) =>
    useVmRecord(call, m, extract(7, 0, which(call)));

  // Teardown: `left` vCPUs of the list remain after `count` steps from the first on.
  const slotNow = (state: State) => extract(7, 0, local(state, 4));
  const left = (entry: State, count: Term) =>
    sub(extract(15, 0, vm(entry, slotNow(entry), "vcpus")), extract(15, 0, count));
  /** Whether `next` is where the list goes on after `count` steps. */
  const at = (entry: State, count: Term, next: Term) => {
    const slot = slotNow(entry);
    const rest = left(entry, count);
    return and(
      ule(zext(count, 64), vm(entry, slot, "vcpus")),
      ite(eq(rest, bv(0, 16)), eq(next, bv(0, 64)), leadsTo(entry, m, slot, rest, next)),
    );
  };
  const profileNow = (state: State, name: string) =>
    word(state, m.layout.constant("PROFILE") + field.profile(name));
  /** Ghost: under LOCK_VMS nothing depends on what held records keep in place. */
  function dropHeld(state: State): void {
    for (const name of ["vmHeld", "accessible"] as const)
      state.memories[name] = Memory.filled(memory(state, name).keyWidth, bv(0, 1));
  }
  /** Ghost: a pin that a record accounted for floats. */
  function float(state: State, pa: Term, size: Term, condition: Term = TRUE): void {
    const key = concat(pa, size);
    write(state, "floating", key, add(read(state, "floating", key), bv(1, 8)), condition);
  }
  /** What a loop over a VM's vCPUs does: which are held, and which are free, by record and place in the list. */
  function teardownLoop(
    machine: Machine,
    which: (
      entry: State,
      now: State,
    ) => Record<"held", (index: Term, rank: Term) => Term> &
      Partial<Record<"freed", (index: Term, rank: Term) => Term>>,
  ): Pick<LoopContract, "memories"> {
    const kept = stays(machine);
    const isOf = (entry: State, index: Term) =>
      and(
        ne(vcpu(entry, index, "hva"), bv(0, 64)),
        eq(vcpu(entry, index, "vm"), zext(vmAt(machine, slotNow(entry)), 64)),
      );
    const rank = (entry: State, index: Term) => read(entry, "vcpuRank", index);
    const same =
      (name: MemoryName) =>
      (_: State, entry: State): Memory =>
        memory(entry, name);
    const freed = (now: State, entry: State, index: Term) => {
      const by = which(entry, now).freed;
      return by ? and(isOf(entry, index), by(index, rank(entry, index))) : FALSE;
    };
    return {
      memories: {
        // Records change only when they are freed.
        linear: {
          open: (now, entry, rest) =>
            memory(entry, "linear").rewrite((key, old) => {
              const index = extract(13, 4, key);
              const isHva = eq(key, extract(31, 3, vcpuField(machine, index, "hva")));
              const record = ite(and(isHva, freed(now, entry, index)), bv(0, 64), old);
              return ite(kept(entry, "linear", key), record, rest.read(key));
            }),
        },
        vcpuHeld: (now, entry) =>
          Memory.filled(10, bv(0, 1)).rewrite((index) => {
            const isHeld = and(isOf(entry, index), which(entry, now).held(index, rank(entry, index)));
            return ite(isHeld, bv(1, 1), bv(0, 1));
          }),
        vcpuRank: (now, entry) =>
          memory(entry, "vcpuRank").rewrite((index, old) => ite(freed(now, entry, index), bv(0, 16), old)),
        vmHeld: () => Memory.filled(8, bv(0, 1)),
        accessible: () => Memory.filled(36, bv(0, 1)),
        ...Object.fromEntries(
          (["floating", "isPrivate", "handle", "alive", "level", "base", "parent"] as const).map((name) => [
            name,
            same(name),
          ]),
        ),
      },
    };
  }

  /** Ghost: a record accounts for a pin that floated. */
  function account(state: State, pa: Term, size: Term, condition: Term): void {
    const key = concat(pa, size);
    write(state, "floating", key, sub(read(state, "floating", key), bv(1, 8)), condition);
    rewrite(
      state,
      "accessible",
      (x) => touches(pa, size, x),
      () => bv(0, 1),
      condition,
    );
  }

  return [
    {
      // The slot of the VM with this handle, or 0.
      function: "vm/slotOf",
      parameters: ["handle"],
      spec(c) {
        const [handle] = c.args as [Term];
        c.require("LOCK_VMS is held", ghost(c.before, "vmsHeld"));
        const slot = extract(7, 0, handle);
        const found = and(
          ne(slot, bv(0, 8)),
          ne(vm(c.before, slot, "state"), VmState.FREE),
          eq(vm(c.before, slot, "handle"), handle),
        );
        c.can("a VM has the handle", found);
        c.can("no VM has it", not(found));
        return ite(found, zext(slot, 32), bv(0, 32));
      },
    },
    {
      // The slot of the active VM whose struct kvm is at `kvmVa`, or 0.
      function: "vm/slotOfKvm",
      parameters: ["kvmVa"],
      atReturn(state, [kvmVa], slot) {
        setGhost(state, "sought", kvmVa as Term);
        setGhost(state, "named", zext(slot as Term, 64));
      },
      loops: {
        0: {
          invariant: (now, entry) => {
            const slot = local(now, 1);
            const one = variable("any alive", 8);
            return {
              "it is a slot": and(ule(bv(1, 32), slot), ule(slot, bv(256, 32))),
              "no VM before has it": not(
                and(
                  ne(one, bv(0, 8)),
                  ult(zext(one, 32), slot),
                  eq(vm(entry, one, "state"), VmState.ACTIVE),
                  eq(vm(entry, one, "kvmVa"), local(entry, 0)),
                ),
              ),
            };
          },
          variant: (now) => sub(bv(256, 32), local(now, 1)),
        },
      },
      spec(c) {
        const [kvmVa] = c.args as [Term];
        const { before } = c;
        c.require("LOCK_VMS is held", ghost(before, "vmsHeld"));
        c.require("the tables are as long as they say", tablesFit(before, m));
        const result = c.result(32);
        setGhost(c.state, "sought", kvmVa);
        setGhost(c.state, "named", zext(result, 64));
        const slot = extract(7, 0, result);
        const has = (one: Term) =>
          and(eq(vm(before, one, "state"), VmState.ACTIVE), eq(vm(before, one, "kvmVa"), kvmVa));
        c.ensure("it is a slot", ult(result, bv(256, 32)));
        c.ensure("the slot's VM has it", implies(ne(result, bv(0, 32)), has(slot)));
        c.ensureAll("no VM has it when there is none", "alive", (one) =>
          implies(
            and(eq(result, bv(0, 32)), ne(one, bv(0, 8)), ult(zext(one, 64), coreWord(before, "vmSlots"))),
            not(has(one)),
          ),
        );
        c.can("a VM has it", ne(result, bv(0, 32)));
        c.can("no VM has it", eq(result, bv(0, 32)));
        return result;
      },
    },
    {
      // The record of the vCPU whose struct kvm_vcpu is at `hva`, or 0; for 0, a free record that was used before.
      function: "vm/vcpuOfHva",
      parameters: ["hva"],
      loops: {
        0: {
          invariant: (now, entry) => {
            const index = local(now, 1);
            return {
              "it is a record": ule(index, bv(1024, 32)),
              "no record before has it": not(
                and(ult(zext(anyVcpu, 32), index), eq(vcpu(entry, anyVcpu, "hva"), local(entry, 0))),
              ),
            };
          },
          variant: (now) => sub(bv(1024, 32), local(now, 1)),
        },
      },
      spec(c) {
        const [hva] = c.args as [Term];
        const { before } = c;
        c.require("LOCK_VMS is held", ghost(before, "vmsHeld"));
        c.require("the tables are as long as they say", tablesFit(before, m));
        const result = c.result(64);
        const index = vcpuIndex(extract(31, 0, result));
        const some = ne(result, bv(0, 64));
        c.ensure("it is a record", implies(some, eq(result, zext(vcpuAt(m, index), 64))));
        c.ensure(
          "the record has it",
          implies(
            some,
            and(eq(vcpu(before, index, "hva"), hva), ult(zext(index, 64), coreWord(before, "vcpuSlots"))),
          ),
        );
        c.ensure(
          "no record has it when there is none",
          implies(
            and(not(some), ult(zext(anyVcpu, 64), coreWord(before, "vcpuSlots"))),
            ne(vcpu(before, anyVcpu, "hva"), hva),
          ),
        );
        c.can("a record has it", some);
        c.can("no record has it", not(some));
        return result;
      },
    },
    {
      // Bytes of SVE state for a vector length of `vq` quadwords: z0 to z31, p0 to p15, FFR (Arm ARM B1.2).
      function: "vm/sveBytes",
      without: RECORDS,
      parameters: ["vq"],
      spec: (c) => sveBytes(c.args[0] as Term),
    },
    {
      // Puts at most 16 pages that the host donated for bookkeeping on its list in struct kvm, as far as they are the host's now.
      function: "vm/returnDonated",
      without: ["vCPU records agree", ...LISTS],
      parameters: ["vm", "first", "pages"],
      forms: { 0: vmForm(m) },
      given: (state) => {
        lockFree("rootHeld")(state);
        state.ghosts.vmsHeld = TRUE;
      },
      loops: {
        0: {
          ...whileOthersRun(m, true),
          variant: (now) => sub(bv(16, 64), local(now, 3)),
          invariant: (now) => ({ "there are at most 16": ule(local(now, 3), bv(16, 64)) }),
        },
      },
      ghost: Object.fromEntries(
        ["host_read64", "host_write64"].map((name) => [
          name,
          (call: Call, [record]: readonly Term[]) => {
            const pa = call.args[0] as Term;
            for (const x of [page(pa), page(sub(add(pa, bv(8, 64)), bv(1, 64)))])
              call.assume(kvmHeld(call.state, m, vmIndex(record as Term), x));
          },
        ]),
      ),
      uses: {
        // A page is put on the host's stack: it links to what was on top, is on top itself, and there is one more.
        host_write64: (call: Call, [record]) => {
          const [place, value] = call.args as [Term, Term];
          const kvm = vm(call.state, vmIndex(record as Term), "kvmPa");
          const [head, count] = ["teardownHead", "teardownPages"].map((name) =>
            add(kvm, m.profile(name)),
          ) as [Term, Term];
          const isTop = and(eq(place, head), isAligned(value, 12));
          const isOneMore = and(eq(place, count), eq(value, add(heard(call.state, count, 8), bv(1, 64))));
          const links = and(isAligned(place, 12), eq(value, heard(call.state, head, 8)));
          call.oblige("pages go on the host's stack", or(isTop, isOneMore, links));
        },
        "lock/release": (call, [record]) => {
          const pa = local(call.state, 4);
          const top = add(vm(call.state, vmIndex(record as Term), "kvmPa"), m.profile("teardownHead"));
          const returns = and(isPhysical(pa), isHosts(call.state, m, page(pa)));
          call.oblige("a page of the host's goes there", implies(returns, wasTold(call.state, top, pa)));
        },
      },
      spec(c) {
        const [record] = c.args as [Term];
        requireFree(c, "rootHeld");
        c.require("LOCK_VMS is held", ghost(c.before, "vmsHeld"));
        c.require("the VM exists", holds(c.before, "alive", vmIndex(record)));
        c.can("it returns", TRUE);
      },
    },
    {
      // Announces a VM whose struct kvm is at `kvmVa`: its handle, which no VM ever had, or an error number. A refused VM leaves no trace.
      function: "vm/initVmLocked",
      parameters: ["kvmVa", "hypVmVa", "pgdVa"],
      given: holdingVms,
      loops: {
        0: {
          invariant: (now, entry) => {
            const slot = local(now, 3);
            const one = variable("any alive", 8);
            return {
              "it is a slot": and(ule(bv(1, 32), slot), ule(slot, bv(256, 32))),
              "no slot before may be used": not(
                and(ne(one, bv(0, 8)), ult(zext(one, 32), slot), mayStart(entry, one)),
              ),
            };
          },
          variant: (now) => sub(bv(256, 32), local(now, 3)),
        },
      },
      atReturn: (state, _, result) => {
        const handle = result as Term;
        create(state, handle);
        account(state, vm(state, extract(7, 0, handle), "kvmPa"), m.profile("kvmSize"), isHandle(handle));
      },
      spec(c) {
        const [kvmVa, hypVmVa, pgdVa] = c.args as [Term, Term, Term];
        const { before, state } = c;
        requireVmsAlone(c, m);
        recallRecords(c, m);
        const result = c.result(64);
        const done = isHandle(result);
        const slot = extract(7, 0, result);
        const failed = (number: number) => eq(result, bv(number, 64));
        c.ensure(
          "it is a handle or an error number",
          or(done, failed(EEXIST), failed(ENOMEM), failed(EINVAL)),
        );
        const smaller = ult(vm(state, slot, "ipaBits"), coreWord(before, "hostIpaBits"));
        c.can("a VM with less address space than there could be is announced", and(done, smaller));
        c.can("a VM with all of it is announced", and(done, not(smaller)));
        c.can("it exists already", failed(EEXIST));
        c.can("no slot is left", failed(ENOMEM));
        c.can("what the host says makes no sense", failed(EINVAL));
        c.ensureAll("a slot is missing only when none may be used", "alive", (one) =>
          implies(and(failed(ENOMEM), ne(one, bv(0, 8))), not(mayStart(before, one))),
        );
        const used = m.layout.constant("CORE_STATE") + field.core("vmSlots");
        const inRecord = (key: Term) => eq(extract(28, 4, key), extract(31, 7, vmAt(m, slot)));
        c.havoc("linear", (key) => and(done, or(inRecord(key), eq(key, bv(used >> 3, 29)))));
        create(state, result);
        keepsStructure(c, m, slot);
        const at = (name: string) => vm(state, slot, name);
        const is = (name: string, value: Term) => eq(at(name), value);
        const bits = at("ipaBits");
        const old = (name: string) => vm(before, slot, name);
        finds(c, kvmVa, page(at("kvmPa")), done);
        finds(c, hypVmVa, page(at("hypVm")), done);
        finds(c, pgdVa, page(at("pgd")), done);
        const hostVtcr = hears(c, add(at("kvmPa"), m.profile("mmuVtcr")), 8, done);
        const wanted = sub(bv(64, 64), zext(extract(5, 0, hostVtcr), 64));
        const most = coreWord(before, "hostIpaBits");
        // Tables of the first level that the host concatenates (Arm ARM D8.2.2), by SL0, where 4 KiB pages start at level 2 - SL0.
        const covered = [30, 39, 48, 57];
        const sl0 = extract(7, 6, hostVtcr);
        const pages = covered.reduceRight(
          (rest, bits, n) => {
            const more = sub(wanted, bv(bits, 64));
            const own = ite(ult(bv(bits, 64), wanted), shl(bv(1, 64), more), bv(1, 64));
            return ite(eq(sl0, bv(n, 2)), own, rest);
          },
          bv(1, 64),
        );
        c.ensure(
          "it is as large as the host describes it, and no larger than can be",
          implies(done, and(is("ipaBits", ite(ult(most, wanted), most, wanted)), is("pgdPages", pages))),
        );
        c.ensure(
          "the host gets back all that it gave",
          implies(done, is("hypVmPages", m.profile("hypVmPages"))),
        );
        c.ensure(
          "the slot was free",
          implies(done, and(ne(slot, bv(0, 8)), not(holds(before, "alive", slot)))),
        );
        c.ensure(
          "the handle is new, and no later one is the same",
          implies(
            done,
            and(
              eq(result, zext(extract(23, 0, result), 64)),
              eq(lshr(result, bv(8, 64)), add(lshr(old("handle"), bv(8, 64)), bv(1, 64))),
            ),
          ),
        );
        c.ensure(
          "its record says what it is",
          implies(
            done,
            and(
              is("kvmVa", kvmVa),
              is("state", VmState.ACTIVE),
              is("privateMemory", m.info("privateVms")),
              // 0 is no translation of an address: the struct kvm and the pages that are handed back at the end are the host's own.
              ...["kvmPa", "hypVm", "pgd"].map((name) => ne(at(name), bv(0, 64))),
              is("broken", bv(0, 64)),
              ule(bits, coreWord(before, "hostIpaBits")),
              is("vtcr", vtcrFor(bits, extract(18, 16, m.core("hostVtcr")))),
              is("firstVcpu", bv(0, 64)),
              is("vcpus", bv(0, 64)),
              is("cursor", bv(0, 64)),
            ),
          ),
        );
        c.ensure("its record agrees", implies(done, and(vmRecord(state, m, slot), vmList(state, m, slot))));
        c.ensure("the tables are as long as they say", tablesFit(state, m));
        c.ensure(
          "the table of VMs does not shrink",
          ule(coreWord(before, "vmSlots"), coreWord(state, "vmSlots")),
        );
        return result;
      },
    },
    {
      // Announces a vCPU of the VM with this handle, whose struct kvm_vcpu is at `hva`: 0, or an error number. A refused vCPU leaves no trace
      // but in records that are free.
      function: "vm/initVcpuLocked",
      parameters: ["handle", "hva", "hypVcpuVa"],
      given: holdingVms,
      ghost: {
        "lock/tryRelease": ({ state, args }: Call) => {
          const index = vcpuIndex(args[0] as Term);
          const at = (name: string) => vcpu(state, index, name);
          const exists = ne(at("hva"), bv(0, 64));
          const slot = vmIndex(extract(31, 0, at("vm")));
          const rank = extract(15, 0, vm(state, slot, "vcpus"));
          account(state, at("pa"), m.profile("vcpuSize"), exists);
          account(state, at("svePa"), sveBytes(at("sveVq")), and(exists, ne(at("sveVq"), bv(0, 64))));
          write(state, "vcpuRank", index, rank, exists);
          write(state, "vcpuAtRank", concat(slot, rank), index, exists);
          write(state, "vmHeld", slot, bv(1, 1), exists);
        },
      },
      spec(c) {
        const [handle, hva, hypVcpuVa] = c.args as [Term, Term, Term];
        const { before, state } = c;
        requireVmsAlone(c, m);
        recallRecords(c, m);
        const slot = extract(7, 0, handle);
        c.recall((now) => vmList(now, m, slot));
        c.recall((now) => and(vmRecord(now, m, slot), listFits(now, m, slot)));
        c.recall((now) => vcpuListed(now, m, extract(9, 0, coreWord(now, "vcpuSlots"))));
        const result = c.result(64);
        const done = eq(result, bv(0, 64));
        const errors = { ENOENT, EINVAL, EEXIST, ENOMEM, EBUSY };
        const failed = (number: number) => eq(result, bv(number, 64));
        c.ensure("it is 0 or an error number", or(done, ...Object.values(errors).map(failed)));
        c.can("a vCPU is announced", done);
        for (const [name, number] of Object.entries(errors)) c.can(`${name} is returned`, failed(number));
        const isFree = (index: Term) => eq(vcpu(before, index, "hva"), bv(0, 64));
        const table = vcpuAt(m, bv(0, 10));
        const inTable = (key: Term) => eq(extract(28, 14, key), extract(31, 17, table));
        const indexOf = (key: Term) => extract(13, 4, key);
        const key = (address: Term) => extract(31, 3, address);
        const used = bv((m.layout.constant("CORE_STATE") + field.core("vcpuSlots")) >> 3, 29);
        const ofVm = (name: string) => key(vmField(m, slot, name));
        c.havoc("linear", (at) =>
          or(
            and(inTable(at), isFree(indexOf(at))),
            eq(at, used),
            and(done, or(eq(at, ofVm("firstVcpu")), eq(at, ofVm("vcpus")))),
          ),
        );
        const first = vm(state, slot, "firstVcpu");
        const index = vcpuIndex(extract(31, 0, first));
        const at = (name: string) => vcpu(state, index, name);
        const count = vm(state, slot, "vcpus");
        write(state, "vcpuRank", index, extract(15, 0, count), done);
        write(state, "vcpuAtRank", concat(slot, extract(15, 0, count)), index, done);
        c.ensure(
          "the vCPU is of an active VM with this handle",
          implies(
            done,
            and(
              ne(slot, bv(0, 8)),
              eq(vm(before, slot, "state"), VmState.ACTIVE),
              eq(vm(before, slot, "handle"), handle),
            ),
          ),
        );
        c.ensure(
          "its record was free and heads the VM's list",
          implies(
            done,
            and(
              isFree(index),
              eq(first, zext(vcpuAt(m, index), 64)),
              eq(at("next"), vm(before, slot, "firstVcpu")),
              eq(count, add(vm(before, slot, "vcpus"), bv(1, 64))),
            ),
          ),
        );
        c.ensure(
          "its record says what it is",
          implies(
            done,
            and(
              eq(at("hva"), hva),
              ne(hva, bv(0, 64)),
              eq(at("vm"), zext(vmAt(m, slot), 64)),
              eq(at("fault"), bv(0, 64)),
              eq(at("mmioPage"), bv(-1, 64)),
              ne(at("hypVcpu"), bv(0, 64)),
              vcpuRecord(state, m, index),
            ),
          ),
        );
        const of = (name: string) => add(at("pa"), m.profile(name));
        const flags = hears(c, of("cflags"), 1, done);
        const hasSve = and(done, eq(extract(0, 0, flags), bv(1, 1)));
        const vectorLength = hears(c, of("sveMaxVl"), 4, hasSve);
        const buffer = hears(c, of("sveState"), 8, hasSve);
        finds(c, hva, page(at("pa")), done);
        finds(c, hypVcpuVa, page(at("hypVcpu")), done);
        finds(c, buffer, page(at("svePa")), hasSve);
        const keys = bv(3n << 40n, 64);
        c.ensure(
          "it has the features that the host gives it",
          implies(
            done,
            and(
              eq(at("hcr"), ite(eq(extract(2, 2, flags), bv(1, 1)), keys, bv(0, 64))),
              eq(at("sveVq"), ite(hasSve, lshr(vectorLength, bv(4, 64)), bv(0, 64))),
              or(hasSve, eq(at("svePa"), bv(0, 64))),
              implies(hasSve, eq(extract(11, 0, at("svePa")), extract(11, 0, buffer))),
            ),
          ),
        );
        c.ensure(
          "no record had its address",
          implies(
            and(done, ult(zext(anyVcpu, 64), coreWord(before, "vcpuSlots"))),
            ne(vcpu(before, anyVcpu, "hva"), hva),
          ),
        );
        c.ensureAll("other records that were free are free", "linear", (at, now) => {
          const other = indexOf(at);
          return implies(
            and(inTable(at), eq(at, key(vcpuField(m, other, "hva"))), isFree(other)),
            or(and(done, eq(other, index)), eq(read(now, "linear", at), bv(0, 64))),
          );
        });
        const length = (now: State) => coreWord(now, "vcpuSlots");
        c.ensure(
          "the table of vCPUs grows by one at most",
          or(eq(length(state), length(before)), eq(length(state), add(length(before), bv(1, 64)))),
        );
        c.ensure("the tables are as long as they say", tablesFit(state, m));
        c.ensure("the list agrees", implies(done, and(vmList(state, m, slot), vcpuListed(state, m, index))));
        return result;
      },
    },
    {
      // Finds and holds the vCPU whose struct kvm_vcpu is at `hva`: its record, or 0 when there is none or another CPU holds it.
      function: "vm/holdVcpu",
      parameters: ["hva", "hint"],
      given: holdingNothing,
      spec(c) {
        const [hva, hint] = c.args as [Term, Term];
        requireNothingHeld(c);
        const result = c.result(64);
        const taken = ne(result, bv(0, 64));
        const index = vcpuIndex(extract(31, 0, result));
        c.ensure("it is a record", implies(taken, eq(result, zext(vcpuAt(m, index), 64))));
        holdRecord(c, m, index, taken);
        c.ensure(
          "it is that of the vCPU",
          implies(taken, and(ne(hva, bv(0, 64)), eq(vcpu(c.state, index, "hva"), hva))),
        );
        const hinted = ne(hint, bv(0, 64));
        c.can("it is held at first sight", and(taken, hinted, eq(vcpuIndex(extract(31, 0, hint)), index)));
        c.can("it is found and held", and(taken, not(hinted)));
        c.can("it is not held", not(taken));
        return result;
      },
    },
    {
      // Ends the VM with this handle, in steps: its vCPUs go at once, its tables region by region, its record last, and each pin of them once.
      // While a vCPU runs nothing changes.
      function: "vm/teardownLocked",
      parameters: ["handle"],
      given: holdingVms,
      loops: {
        // All vCPUs are to be held, from the first on.
        0: {
          ...teardownLoop(m, (entry, now) => ({
            held: (_, rank) => ult(left(entry, local(now, 3)), rank),
          })),
          invariant: (now, entry) => ({
            "what is held next is at its place": at(entry, local(now, 3), local(now, 0)),
          }),
          variant: (now) => sub(bv(1024, 32), local(now, 3)),
          locals: { 2: (_, entry) => local(entry, 2) },
        },
        // One is in use: those held are let go.
        1: {
          ...teardownLoop(m, (entry, now) => ({
            held: (_, rank) =>
              and(ult(left(entry, local(entry, 3)), rank), ule(rank, left(entry, local(now, 2)))),
          })),
          invariant: (now, entry) => ({
            "what is let go next is at its place": at(entry, local(now, 2), local(now, 5)),
            "it is not past the end": ule(local(now, 2), local(entry, 3)),
          }),
          variant: (now) => sub(bv(1024, 32), local(now, 2)),
        },
        // All are held, and freed.
        2: {
          ...teardownLoop(m, (entry, now) => ({
            held: (_, rank) => ule(rank, left(entry, local(now, 3))),
            freed: (_, rank) => ult(left(entry, local(now, 3)), rank),
          })),
          invariant: (now, entry) => ({
            "what is freed next is at its place": at(entry, local(now, 3), local(now, 0)),
          }),
          variant: (now) => sub(bv(1024, 32), local(now, 3)),
        },
        3: {
          invariant: (now) => ({ "there are at most 16 steps": ule(local(now, 2), bv(16, 32)) }),
          variant: (now) => sub(bv(16, 32), local(now, 2)),
          everywhere: (now, entry) => ({
            "tables are part of the tree, or nobody's": {
              memory: "use",
              at: (table: Term) => {
                const is = read(now, "use", table);
                const part = or(eq(is, tree(slotNow(entry))), not(isMine(now, is)));
                return implies(eq(read(entry, "use", table), tree(slotNow(entry))), part);
              },
            },
          }),
          memories: {
            // Only the cursor moves; other trees stay, and nothing is mapped that was not.
            linear: only("linear", (entry) => {
              const cursor = extract(31, 3, vmField(m, slotNow(entry), "cursor"));
              return (key) => or(not(stays(m)(entry, "linear", key)), eq(key, cursor));
            }),
            pt: only(
              "pt",
              (entry) => (key) => eq(read(entry, "use", extract(44, 9, key)), tree(slotNow(entry))),
            ),
            use: only("use", (entry) => (table) => eq(read(entry, "use", table), tree(slotNow(entry)))),
            mapped: only("mapped", (entry) => (key) => holds(entry, "mapped", key)),
          },
          ghosts: { staleLevel: "any", staleTable: "any", unordered: "any" },
        },
      },
      uses: Object.fromEntries(
        ["lock/acquire", "memory/dismantle", "memory/isEmpty", "vm/returnDonated"].map((name) => [
          name,
          useRecord((call) => local(call.state, 4)),
        ]),
      ),
      ghost: {
        // Nothing is accessed while records are held: what they hold in place is dropped.
        "records/vcpuOf": ({ state }: Call) => dropHeld(state),
        "lock/tryRelease": ({ state, args }: Call) => {
          const index = vcpuIndex(args[0] as Term);
          const exists = ne(vcpu(state, index, "hva"), bv(0, 64));
          write(state, "vmHeld", vmIndex(extract(31, 0, vcpu(state, index, "vm"))), bv(1, 1), exists);
        },
        // A record accounts for its pins no more: for each record once.
        "hostmem/unpin": (call: Call) => {
          const { state } = call;
          const [pa, size] = call.args as [Term, Term];
          if (size === profileNow(state, "vcpuSize")) {
            const index = vcpuIndex(local(state, 2));
            const field = (name: string) => vcpu(state, index, name);
            call.oblige("the record accounts for its pins", ne(read(state, "vcpuRank", index), bv(0, 16)));
            call.oblige("it is its pin", eq(pa, field("pa")));
            write(state, "vcpuRank", index, bv(0, 16));
            float(state, pa, size);
            float(state, field("svePa"), sveBytes(field("sveVq")), ne(field("sveVq"), bv(0, 64)));
          } else if (size === profileNow(state, "kvmSize")) {
            const slot = vmIndex(local(state, 1));
            call.oblige("the VM's record accounts for its pin", holds(state, "alive", slot));
            call.oblige("it is the VM's pin", eq(pa, vm(state, slot, "kvmPa")));
            call.oblige("its tables are not locked", not(ghost(state, "rootHeld")));
            call.oblige(
              "no TLB keeps what its own stage 1 said",
              eq(ghost(state, "flushedVmid"), flushed(slot)),
            );
            // What hangs in the tree hangs, by at most three links, on the root, which is empty: so it is the root.
            const tables = [extract(44, 9, variable("any pt", 45))];
            for (const one of [0, 1, 2])
              tables.push(extract(44, 9, read(state, "parent", tables[one] as Term)));
            for (const [down, table] of [...tables].reverse().entries()) {
              call.assume(linked(state, m, table));
              const parent = read(state, "parent", table);
              const isEmpty = implies(
                isRootPage(m, slot, extract(44, 9, parent)),
                eq(read(state, "pt", parent), bv(0, 64)),
              );
              call.oblige(`the root is empty, seen from level ${down}`, isEmpty);
              call.assume(isEmpty);
              const hangs = and(
                eq(read(state, "use", table), tree(slot)),
                ule(read(state, "level", table), bv(down, 2)),
              );
              const isRoot = implies(hangs, isRootPage(m, slot, table));
              call.oblige(`a table of level ${down} is the root`, isRoot);
              call.assume(isRoot);
            }
            rewrite(
              state,
              "use",
              () => TRUE,
              (_, use) => ite(eq(use, Use.detached(slot)), Use.OTHER, use),
            );
            write(state, "alive", slot, bv(0, 1));
            float(state, pa, size);
          }
        },
      },
      atReturn: dropHeld,
      spec(c) {
        const [handle] = c.args as [Term];
        const { before, state } = c;
        requireVmsAlone(c, m);
        const slot = extract(7, 0, handle);
        c.recall((now) => and(vmRecord(now, m, slot), vmList(now, m, slot), listFits(now, m, slot)));
        recallRecords(c, m);
        const result = c.result(64);
        const is = (number: number) => eq(result, bv(number, 64));
        const done = is(0);
        const steps = is(ERESTART);
        const old = (name: string) => vm(before, slot, name);
        c.ensure("it is 0 or an error number", or(done, steps, is(ENOENT), is(EBUSY)));
        c.can("it is gone", done);
        c.can("there is more to take apart", steps);
        c.can("there is no such VM", is(ENOENT));
        c.can("a vCPU is in use", is(EBUSY));
        const exists = and(ne(slot, bv(0, 8)), ne(old("state"), VmState.FREE), eq(old("handle"), handle));
        c.ensure("a VM that exists is found", eq(is(ENOENT), not(exists)));
        c.ensure("a VM without vCPUs is not in use", implies(is(EBUSY), eq(old("state"), VmState.ACTIVE)));
        const ends = or(done, steps);
        const key = (address: Term) => extract(31, 3, address);
        const ofVm = (at: Term) =>
          or(...["state", "firstVcpu", "vcpus", "cursor"].map((name) => eq(at, key(vmField(m, slot, name)))));
        const ofVcpu = (at: Term) => {
          const index = extract(13, 4, at);
          return and(
            eq(at, key(vcpuField(m, index, "hva"))),
            ne(vcpu(before, index, "hva"), bv(0, 64)),
            eq(vcpu(before, index, "vm"), zext(vmAt(m, slot), 64)),
          );
        };
        c.havoc("linear", (at) => and(ends, or(ofVm(at), ofVcpu(at))));
        for (const name of ["vcpuRank", "vcpuAtRank"] as const) c.havoc(name, () => ends);
        c.ensureAll("its vCPUs are gone", "linear", (at, now) =>
          implies(and(ends, ofVcpu(at)), eq(read(now, "linear", at), bv(0, 64))),
        );
        c.ensureAll("other vCPUs keep their places", "vcpuRank", (index, now) =>
          or(
            eq(vcpu(now, index, "hva"), bv(0, 64)),
            eq(read(now, "vcpuRank", index), read(before, "vcpuRank", index)),
          ),
        );
        c.ensureAll("other VMs keep their lists", "vcpuAtRank", (at, now) =>
          or(eq(extract(23, 16, at), slot), eq(read(now, "vcpuAtRank", at), read(before, "vcpuAtRank", at))),
        );
        const at = (name: string) => vm(state, slot, name);
        c.ensure(
          "it has no vCPU",
          implies(ends, and(eq(at("firstVcpu"), bv(0, 64)), eq(at("vcpus"), bv(0, 64)))),
        );
        c.ensure("it is dying", implies(steps, eq(at("state"), VmState.DYING)));
        c.ensure("its slot is free", implies(done, eq(at("state"), VmState.FREE)));
        write(state, "alive", slot, bv(0, 1), done);
        othersRun(c, m, ["pt", "use"]);
        c.ensureAll("nothing is left of its tree", "pt", (one, now) =>
          implies(done, emptyTree(now, m, concat(extract(35, 1, rootPage(m, slot)), extract(9, 0, one)))),
        );
        c.ensureAll("a free slot's tree is empty", "pt", (one, now) =>
          implies(eq(rootOf(read(now, "use", extract(44, 9, one))), slot), emptyTree(now, m, one)),
        );
        letsGo(c);
        return result;
      },
    },
  ];
}
