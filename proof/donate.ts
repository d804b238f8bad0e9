/**
 * Pages of private VMs: how they come, and how they go back.
 *
 * To the VM: the host's mapping goes, caches are cleaned, the owner changes, the VM's mapping comes. To the host: the VM's mapping goes,
 * the page is zeroed and cleaned, the owner changes, the host's mapping comes. That nothing happens out of order is what the primitives
 * demand (`machine.ts`); here is what each step is called for.
 */
import {
  add,
  and,
  bv,
  type Call,
  type Clause,
  type Contract,
  eq,
  extract,
  implies,
  lshr,
  not,
  or,
  type State,
  type Term,
  ugt,
  ule,
  ult,
  zext,
} from "../microv/index.ts";
import { kvmHeld, ownedByVm, vmField } from "./invariants.ts";
import { constants } from "./layout.ts";
import { givenVm, theVm, vmForm } from "./lend.ts";
import { vmIndex } from "./linear.ts";
import { lockFree, requireFree } from "./lock.ts";
import { empty, extendTree, slotKey } from "./pgtable.ts";
import {
  agrees,
  ghost,
  HOST_ROOT,
  holds,
  inRam,
  isAligned,
  isNobodys,
  isPhysical,
  known,
  type Machine,
  mappedKey,
  nothingStale,
  OWNER_RESERVED,
  ownerOf,
  page,
  payloadOf,
  ramIndex,
  read,
  requireNothingStale,
  rootLocked,
  tree,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

const ONE = bv(1, 1);
const Fill = constants("memory.ts", "Fill", 32);

/** Whether `ipa` is an address of the VM in `slot`. */
function inVm(state: State, m: Machine, slot: Term, ipa: Term): Term {
  return eq(lshr(ipa, word(state, vmField(m, slot, "ipaBits"))), bv(0, 64));
}

/** What may change where the tree of `root` grows and shrinks: its tables, and pages that were nobody's. */
function treeChanges(c: Clause, m: Machine, root: Term): void {
  const { before } = c;
  const taken = (table: Term) => isNobodys(before, m, table);
  c.havoc("pt", (key) => {
    const table = extract(44, 9, key);
    return or(eq(read(before, "use", table), tree(root)), taken(table));
  });
  for (const name of ["use", "level", "base", "parent"] as const) c.havoc(name, taken);
  c.havoc("position", (key) => eq(extract(46, 39, key), root));
  c.havoc("mapped", (key) => eq(extract(43, 36, key), root));
  for (const name of ["unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
}

/** What is known of a page whose owner is read. */
export const useOwner =
  (m: Machine) =>
  (call: Call): void =>
    call.assume(ownedByVm(call.state, m, extract(35, 0, call.args[0] as Term)));

/** The struct kvm of a VM that stays is the host's, where the core reads in it. */
function useKvm(m: Machine): (call: Call) => void {
  return (call) => {
    const slot = vmIndex(call.args[0] as Term);
    const kvm = word(call.state, vmField(m, slot, "kvmPa"));
    for (const name of ["mmuVtcr", "mmuPgdPhys"])
      for (const byte of [0, 7])
        call.assume(kvmHeld(call.state, m, slot, page(add(kvm, m.profile(name), bv(byte, 64)))));
  };
}

/** Shows that a slot is one of the private VM whose record the first parameter names. */
function ofVm(call: Call, [vm]: readonly Term[]): void {
  const slot = vmIndex(vm as Term);
  known(call, "isPrivate", slot, ONE);
  known(call, "use", page(call.args[0] as Term), tree(slot));
}

export function donateContracts({ m }: Core): Contract[] {
  return [
    {
      // Who owns the page of RAM at `pa` at this moment. It may be another one as soon as this returns.
      function: "memory/ownerNow",
      parameters: ["pa"],
      given: lockFree("s2pageHeld"),
      spec(c) {
        const [pa] = c.args as [Term];
        requireFree(c, "s2pageHeld");
        c.require("it is RAM", and(isPhysical(pa), inRam(m, page(pa))));
        const owner = c.result(64);
        c.ensure("it is an owner", ult(owner, bv(1 << 24, 64)));
        c.can("it is a VM", ugt(owner, zext(OWNER_RESERVED, 64)));
        return owner;
      },
    },
    {
      // Maps the page at `pa` for the host if it is the host's or no RAM. Says whether it is mapped now.
      function: "memory/mapForHost",
      parameters: ["pa"],
      given: (state) => {
        nothingStale(state);
        lockFree("hostmapHeld")(state);
      },
      spec(c) {
        const [pa] = c.args as [Term];
        requireNothingStale(c);
        requireFree(c, "hostmapHeld");
        const result = c.result(32);
        const done = eq(result, bv(1, 32));
        for (const name of ["unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
        c.ensure("it says whether it is mapped", ule(result, bv(1, 32)));
        c.ensure("only what the host's tables can reach is mapped", implies(done, isPhysical(pa)));
        c.can("it is mapped", done);
        c.can("it is not", not(done));
        return result;
      },
    },
    {
      // Scrubs a page that a VM owned and that no VM can reach any more, makes it the host's, and maps it if a table page is left.
      function: "memory/giveToHost",
      parameters: ["pa"],
      given: nothingStale,
      spec(c) {
        const [pa] = c.args as [Term];
        const { before, state } = c;
        const x = page(pa);
        const index = ramIndex(m, x);
        const entry = read(before, "owner", index);
        const root = extract(7, 0, ownerOf(entry));
        const frame = extract(35, 0, payloadOf(entry));
        const exists = and(holds(before, "alive", root), eq(read(before, "handle", root), ownerOf(entry)));
        requireNothingStale(c);
        c.require("it is a page of RAM", and(isAligned(pa, 12), isPhysical(pa), inRam(m, x)));
        c.require("LOCK_HOSTMAP is held", ghost(before, "hostmapHeld"));
        c.require("LOCK_S2PAGE is held", ghost(before, "s2pageHeld"));
        c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
        c.require("a VM owns it", ugt(ownerOf(entry), OWNER_RESERVED));
        c.require("its owner is one that can be", ownedByVm(before, m, index));
        c.require(
          "if the VM exists, its lock is held and it maps the page no more",
          implies(
            exists,
            and(rootLocked(before, root), not(holds(before, "mapped", mappedKey(root, frame)))),
          ),
        );
        extendTree(c, m, HOST_ROOT, x, empty);
        c.havoc("mapped", (key) => eq(extract(43, 36, key), HOST_ROOT));
        write(state, "owner", index, bv(0, 64));
        write(state, "zeroed", x, ONE);
        write(state, "cleaned", x, ONE);
        c.can("the host maps it now", holds(state, "mapped", mappedKey(HOST_ROOT, x)));
      },
    },
    {
      // Gives the VM what the host proposes at `ipa`. One of Fill.*; MAPPED says that its tables map the page now.
      function: "memory/fill",
      parameters: ["vm", "ipa", "fault"],
      forms: { 0: vmForm(m) },
      given: (state) => {
        givenVm(m, "fill")(state);
        lockFree("rootHeld")(state);
      },
      spec(c) {
        const [vm, ipa] = c.args as [Term, Term];
        const { before, state } = c;
        const slot = theVm(c, m, vm);
        requireNothingStale(c);
        requireFree(c, "rootHeld");
        const status = c.result(32);
        const isDenied = and(eq(extract(31, 5, status), bv(0, 27)), eq(extract(2, 0, status), bv(4, 3)));
        for (const name of ["root", "unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
        c.havoc("mapped", (key) => eq(key, mappedKey(slot, page(ipa))));
        const isPrivate = holds(before, "isPrivate", slot);
        const mapped = holds(state, "mapped", mappedKey(slot, page(ipa)));
        c.ensure("it is one of Fill", or(ule(status, Fill("REFUSED")), isDenied));
        c.ensure(
          "what is outside the VM's range is absent",
          or(inVm(before, m, slot, ipa), eq(status, Fill("ABSENT"))),
        );
        c.ensure(
          "a private VM maps what is MAPPED",
          implies(and(isPrivate, eq(status, Fill("MAPPED"))), mapped),
        );
        c.ensure("a private VM is denied no access", implies(isPrivate, not(isDenied)));
        for (const name of ["MAPPED", "ABSENT", "READ_ONLY", "REFUSED"])
          c.can(name, and(isPrivate, eq(status, Fill(name))));
        c.can("an ordinary VM is denied an access", isDenied);
        return status;
      },
    },
    {
      // Takes the page at `pa` from a private VM that is dying, or of which the host's tables propose the page no more. True when done.
      function: "memory/withdraw",
      parameters: ["vm", "pa"],
      forms: { 0: vmForm(m) },
      given: (state) => {
        givenVm(m, "withdraw")(state);
        lockFree("hostmapHeld")(state);
      },
      uses: {
        s2page_read: useOwner(m),
        "memory/proposal": useKvm(m),
        pt_read: (call: Call) => {
          const ipa = call.state.locals[2] as Term;
          call.assume(agrees(call.state, slotKey(call.args[0] as Term), page(ipa)));
        },
        "pgtable/splitBlock": ofVm,
        "pgtable/clearEntry": (call: Call, args) => {
          ofVm(call, args);
          const ipa = call.state.locals[2] as Term;
          call.assume(agrees(call.state, slotKey(call.args[0] as Term), page(ipa)));
        },
      },
      spec(c) {
        const [vm, pa] = c.args as [Term, Term];
        const { before, state } = c;
        const slot = theVm(c, m, vm);
        requireNothingStale(c);
        requireFree(c, "hostmapHeld");
        c.require("LOCK_VMS is held", ghost(before, "vmsHeld"));
        c.require("the VM's lock is held", rootLocked(before, slot));
        c.require("it is a page of RAM", and(isAligned(pa, 12), isPhysical(pa), inRam(m, page(pa))));
        const result = c.result(32);
        const done = eq(result, bv(1, 32));
        const index = ramIndex(m, page(pa));
        c.ensure("it says whether it is done", ule(result, bv(1, 32)));
        treeChanges(c, m, slot);
        write(state, "linear", extract(31, 3, vmField(m, slot, "broken")), bv(1, 64), done);
        c.havoc("owner", (key) => eq(key, index));
        c.ensure("the page is the host's", implies(done, eq(read(state, "owner", index), bv(0, 64))));
        c.can("it is done", done);
        c.can("it is not", not(done));
        return result;
      },
    },
  ];
}
