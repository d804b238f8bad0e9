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
  concat,
  copyState,
  eq,
  extract,
  implies,
  ite,
  type LoopContract,
  lshr,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  TRUE,
  ugt,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { kvmHeld, ownedByVm, owners, vmField } from "./invariants.ts";
import { constants } from "./layout.ts";
import { givenVm, requireCounts, requireKvm, theVm, vmForm } from "./lend.ts";
import { vmIndex } from "./linear.ts";
import { lockFree, requireFree } from "./lock.ts";
import { empty, extendTree, inRange, slotKey } from "./pgtable.ts";
import {
  agrees,
  failsExhausted,
  ghost,
  goesDown,
  HOST_ROOT,
  holds,
  inRam,
  isAligned,
  isCores,
  isHosts,
  isMine,
  isNobodys,
  isPhysical,
  known,
  type Machine,
  mappedKey,
  memory,
  nothingStale,
  OWNER_CORE,
  OWNER_HOST,
  OWNER_RESERVED,
  ownerOf,
  page,
  pageAt,
  payloadOf,
  ramIndex,
  read,
  requireNothingStale,
  rewrite,
  rootLocked,
  setGhost,
  tree,
  Use,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

const ONE = bv(1, 1);
const ZERO = bv(0, 1);
const Fill = constants("memory.ts", "Fill", 32);
const VmState = constants("records.ts", "VmState", 64);

/** Whether `ipa` is an address of the VM in `slot`. */
export function inVm(state: State, m: Machine, slot: Term, ipa: Term): Term {
  return eq(lshr(ipa, word(state, vmField(m, slot, "ipaBits"))), bv(0, 64));
}

/** What may change where trees of `roots` grow and shrink: their tables, and pages that were nobody's. */
function treesChange(c: Clause, m: Machine, ...roots: readonly Term[]): void {
  const { before } = c;
  const ofTree = (use: Term) => or(...roots.map((root) => eq(use, tree(root))));
  const taken = (table: Term) => isNobodys(before, m, table);
  c.havoc("pt", (key) => {
    const table = extract(44, 9, key);
    return or(ofTree(read(before, "use", table)), taken(table));
  });
  for (const name of ["use", "level", "base", "parent"] as const) c.havoc(name, taken);
  c.havoc("position", (key) => or(...roots.map((root) => eq(extract(46, 39, key), root))));
  c.ensureAll("new tables are part of the trees", "use", (table, now) => {
    const use = read(now, "use", table);
    return implies(taken(table), or(ofTree(use), not(isMine(now, use))));
  });
  for (const name of ["unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
}

/** Whether two page numbers are in the same 2 MiB. */
const sameBlock = (a: Term, b: Term): Term => eq(extract(35, 9, a), extract(35, 9, b));

/** Whether a private VM has lost a page. */
const isBroken = (state: State, m: Machine, slot: Term): Term =>
  ne(word(state, vmField(m, slot, "broken")), bv(0, 64));

/**
 * A private VM's leaf: ordinary write-back memory, inner shareable, that the VM may read, write and execute (Arm ARM D8.3.2; the memory type
 * with FEAT_S2FWB, D8.6.6).
 */
function privateLeaf(m: Machine, x: Term, level: number): Term {
  const withFwb = ne(m.core("forceWriteBack"), bv(0, 64));
  const type = ite(withFwb, bv(0b0110, 4), bv(0b1111, 4));
  return concat(bv(0, 16), x, bv(0b0_1_11_11, 6), type, bv(level === 3 ? 0b11 : 0b01, 2));
}

/** Shows that a leaf is one that a private VM has. */
function isPrivateLeaf(call: Call, m: Machine, leaf: Term, level: number): void {
  call.oblige("a private VM's leaf is ordinary memory", eq(leaf, privateLeaf(m, page(leaf), level)));
}

/** What the host's tables propose for page `x` of a VM, and whether the host may write it itself. */
const proposedAt = (state: State, slot: Term, x: Term): Term => read(state, "proposed", mappedKey(slot, x));
const mayWrite = (leaf: Term): Term => eq(extract(7, 7, leaf), ONE);

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

/** Leaves word whether the host got the page. */
const obtains: NonNullable<Contract["atReturn"]> = (state, _, done) =>
  setGhost(state, "obtained", eq(done as Term, bv(1, 32)));

export function donateContracts({ m }: Core): Contract[] {
  return [
    {
      // Who owns the page of RAM at `pa` at this moment. It may be another one as soon as this returns.
      function: "memory/ownerNow",
      parameters: ["pa"],
      given: (state) => {
        nothingStale(state);
        lockFree("s2pageHeld")(state);
      },
      atReturn: (state, _, owner) => setGhost(state, "lastOwner", owner as Term),
      spec(c) {
        const [pa] = c.args as [Term];
        requireNothingStale(c);
        requireFree(c, "s2pageHeld");
        c.require("it is RAM", and(isPhysical(pa), inRam(m, page(pa))));
        const owner = c.result(64);
        c.ensure("it is an owner", ult(owner, bv(1 << 24, 64)));
        c.ensure(
          "the core owns its memory and nothing else",
          eq(isCores(m, page(pa)), eq(owner, zext(OWNER_CORE, 64))),
        );
        setGhost(c.state, "lastOwner", owner);
        c.can("it is a VM", ugt(owner, zext(OWNER_RESERVED, 64)));
        c.can("it is the host", eq(owner, zext(OWNER_HOST, 64)));
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
      uses: {
        "lock/release": ({ state, oblige }: Call, [pa]) => {
          const x = page(pa as Term);
          const refused = and(ghost(state, "s2pageHeld"), eq(state.locals[1] as Term, bv(0, 32)));
          oblige(
            "a page of the host or a device is mapped while the pool has tables",
            implies(and(refused, or(not(inRam(m, x)), isHosts(state, m, x))), ghost(state, "exhausted")),
          );
        },
      },
      atReturn: obtains,
      spec(c) {
        const [pa] = c.args as [Term];
        const key = mappedKey(HOST_ROOT, page(pa));
        requireNothingStale(c);
        requireFree(c, "hostmapHeld");
        const result = c.result(32);
        const done = eq(result, bv(1, 32));
        c.havoc("mapped", (any) => eq(any, key));
        for (const name of ["unordered", "staleLevel", "staleTable"]) c.havocGhost(name);
        c.ensure("it says whether it is mapped", ule(result, bv(1, 32)));
        c.ensure("it is mapped where that is said", implies(done, holds(c.state, "mapped", key)));
        c.ensure("only what the host's tables can reach is mapped", implies(done, isPhysical(pa)));
        c.ensure("nothing of the core is mapped", implies(done, not(isCores(m, page(pa)))));
        setGhost(c.state, "obtained", done);
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
      atReturn: (state) => setGhost(state, "obtained", TRUE),
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
        c.require("if the VM exists, it is broken", implies(exists, isBroken(before, m, root)));
        extendTree(c, m, HOST_ROOT, x, empty);
        c.havoc("mapped", (key) => eq(extract(43, 36, key), HOST_ROOT));
        write(state, "owner", index, bv(0, 64));
        write(state, "zeroed", x, ONE);
        write(state, "cleaned", x, ONE);
        setGhost(state, "obtained", TRUE);
        c.can("the host maps it now", holds(state, "mapped", mappedKey(HOST_ROOT, x)));
      },
    },
    donateBlock(m),
    {
      // Gives the VM what the host proposes at `ipa`. One of Fill.*; MAPPED says that its tables map the page now.
      function: "memory/fill",
      parameters: ["vm", "ipa", "fault"],
      forms: { 0: vmForm(m) },
      given: (state) => {
        givenVm(m, "fill")(state);
        lockFree("rootHeld")(state);
        write(state, "vmHeld", vmIndex(variable("fill.vm", 32)), ONE);
      },
      uses: {
        "memory/proposal": useKvm(m),
        pt_read: (call: Call, [, ipa]) => {
          const key = slotKey(call.args[0] as Term);
          call.assume(agrees(call.state, key, page(ipa as Term)));
          const pa = call.state.locals[2] as Term;
          if (call.args[0] === call.state.locals[4]) call.assume(agrees(call.state, key, page(pa)));
        },
        "pgtable/clearEntry": (call: Call) => atLevel(call, call.args[0] as Term, HOST_ROOT, 3),
        page_clean: (call: Call, [vm, ipa]) => {
          const [, , pa, , hostSlot, slot] = call.state.locals as Term[];
          call.assume(agrees(call.state, slotKey(slot as Term), page(ipa as Term)));
          call.assume(goesDown(call.state, slotKey(hostSlot as Term), page(pa as Term)));
          const leaf = proposedAt(call.state, vmIndex(vm as Term), page(ipa as Term));
          call.oblige(
            "a page is given that the host proposes, and may write",
            and(eq(page(pa as Term), page(leaf)), mayWrite(leaf)),
          );
        },
        s2page_write: (call: Call) =>
          call.assume(owners(call.state, m, extract(35, 0, call.args[0] as Term))),
        "lock/release": ({ state, oblige }: Call, [vm, ipa]) => {
          const slot = vmIndex(vm as Term);
          const x = page(proposedAt(state, slot, page(ipa as Term)));
          const free = and(inRam(m, x), eq(read(state, "owner", ramIndex(m, x)), bv(0, 64)));
          const refused = and(ghost(state, "s2pageHeld"), eq(state.locals[3] as Term, Fill("REFUSED")));
          oblige(
            "a free page is given to a VM that has lost none, while the pool has tables",
            implies(and(refused, free, not(isBroken(state, m, slot))), ghost(state, "exhausted")),
          );
        },
        pt_write: (call: Call, [vm]) => {
          const pa = call.args[0] as Term;
          const slot = vmIndex(vm as Term);
          known(call, "isPrivate", slot, ONE);
          atLevel(call, pa, slot, 3);
          isPrivateLeaf(call, m, call.args[1] as Term, 3);
          known(call, "pt", slotKey(pa), bv(0, 64));
        },
      },
      spec(c) {
        const [vm, ipa] = c.args as [Term, Term];
        const { before, state } = c;
        const slot = theVm(c, m, vm);
        requireNothingStale(c);
        requireFree(c, "rootHeld");
        c.require("a vCPU of the VM is held", holds(before, "vmHeld", slot));
        requireKvm(c, m, slot);
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
        c.havoc("proposed", (key) => eq(key, mappedKey(slot, page(ipa))));
        const leaf = proposedAt(state, slot, page(ipa));
        const proposed = ne(leaf, bv(0, 64));
        const says = (name: string, fact: Term) =>
          c.ensure(
            `of a private VM's page, what is ${name} is so`,
            implies(and(isPrivate, inVm(before, m, slot, ipa), eq(status, Fill(name))), fact),
          );
        says("ABSENT", not(proposed));
        says("READ_ONLY", and(proposed, not(mayWrite(leaf))));
        says("REFUSED", proposed);
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
        "memory/giveToHost": (call: Call, [vm]) => {
          const slot = vmIndex(vm as Term);
          const pa = call.args[0] as Term;
          const leaf = proposedAt(call.state, slot, page(call.state.locals[2] as Term));
          const isDying = eq(word(call.state, vmField(m, slot, "state")), VmState("DYING"));
          call.oblige(
            "a page is taken from a VM that dies, or of which the host proposes it no more",
            or(isDying, ne(page(leaf), page(pa))),
          );
        },
        "lock/release": ({ state, oblige }: Call, [vm, pa]) => {
          const slot = vmIndex(vm as Term);
          const entry = read(state, "owner", ramIndex(m, page(pa as Term)));
          const leaf = proposedAt(state, slot, extract(35, 0, payloadOf(entry)));
          const isOwn = eq(zext(ownerOf(entry), 64), word(state, vmField(m, slot, "handle")));
          const isDying = eq(word(state, vmField(m, slot, "state")), VmState("DYING"));
          const taken = and(isOwn, or(isDying, ne(page(leaf), page(pa as Term))));
          oblige(
            "its page is taken from a VM that dies, or of which the host proposes it no more, while the pool has tables",
            implies(and(ghost(state, "s2pageHeld"), taken), ghost(state, "exhausted")),
          );
        },
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
      atReturn: obtains,
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
        treesChange(c, m, slot);
        c.havoc("mapped", (key) => eq(extract(43, 36, key), slot));
        write(state, "linear", extract(31, 3, vmField(m, slot, "broken")), bv(1, 64), done);
        c.havoc("owner", (key) => eq(key, index));
        c.ensure("the page is the host's", implies(done, eq(read(state, "owner", index), bv(0, 64))));
        setGhost(state, "obtained", done);
        c.can("it is done", done);
        c.can("it is not", not(done));
        return result;
      },
    },
  ];
}

/** Starts a proof about a private VM where its record's slot is known, and no invalidation is under way. */
function givenPrivate(m: Machine, name: string): (state: State) => void {
  return (state) => {
    givenVm(m, name)(state);
    write(state, "isPrivate", vmIndex(variable(`${name}.vm`, 32)), ONE);
  };
}

/** Shows that an entry is one of the level in the tree of `root`. */
function atLevel(call: Call, slot: Term, root: Term, level: number): void {
  known(call, "use", page(slot), tree(root));
  known(call, "level", page(slot), bv(level, 2));
}

/** A loop over the 512 pages of a block, counted by local `count`. */
const overBlock = (count: number): Pick<LoopContract, "invariant" | "variant"> => ({
  invariant: (now) => ({ "the block has 512 pages": ule(now.locals[count] as Term, bv(512, 64)) }),
  variant: (now) => sub(bv(512, 64), now.locals[count] as Term),
});

/** Whether page or index `x` is one of the first `count` (64 bits) from `first` on. */
const among = (x: Term, first: Term, count: Term): Term => ult(zext(sub(x, first), 64), count);

function donateBlock(m: Machine): Contract {
  let hostSlot: Term | undefined;
  const local = (state: State, index: number) => state.locals[index] as Term;
  const indexIn = (state: State, number: number) => extract(35, 0, local(state, number));
  return {
    // Donates the 2 MiB around the page that `leaf` proposes, all of them free. ABSENT, with no page given, when it must go page by page.
    function: "memory/donateBlock",
    parameters: ["vm", "ipa", "leaf"],
    forms: { 0: vmForm(m) },
    given: givenPrivate(m, "donateBlock"),
    uses: {
      pt_zero: (call: Call) => {
        known(call, "use", page(call.args[0] as Term), tree(HOST_ROOT));
        known(call, "level", page(call.args[0] as Term), bv(3, 2));
      },
      "pgtable/clearEntry": (call: Call) => atLevel(call, call.args[0] as Term, HOST_ROOT, 2),
      pt_write: (call: Call, [vm]) => {
        const [pa, entry] = call.args as [Term, Term];
        const isTable = extract(1, 1, entry) === ONE;
        atLevel(call, pa, isTable ? HOST_ROOT : vmIndex(vm as Term), 2);
        known(call, "pt", slotKey(pa), bv(0, 64));
        if (isTable) known(call, "use", page(entry), Use.TAKEN);
        else isPrivateLeaf(call, m, entry, 2);
      },
      page_clean: ({ state }: Call) => {
        hostSlot = local(state, 5);
      },
      s2page_write: (call: Call) => {
        const index = extract(35, 0, call.args[0] as Term);
        call.assume(goesDown(call.state, slotKey(hostSlot as Term), pageAt(m, index)));
        call.assume(owners(call.state, m, index));
      },
    },
    loops: {
      0: {
        ...overBlock(3),
        everywhere: (head, entry) => {
          const now = copyState(head);
          return {
            "owners stay": {
              memory: "owner",
              at: (key) => eq(read(now, "owner", key), read(entry, "owner", key)),
            },
            "all so far are free": {
              memory: "owner",
              at: (key) =>
                implies(
                  and(ne(local(now, 7), bv(0, 32)), among(key, indexIn(now, 4), local(now, 3))),
                  eq(read(now, "owner", key), bv(0, 64)),
                ),
            },
          };
        },
        memories: { owner: "any" },
      },
      1: {
        ...overBlock(1),
        memories: {
          cleaned: (now, entry) => {
            const [count, pa] = [local(now, 1), local(now, 2)];
            return memory(entry, "cleaned").rewrite((x, old) => ite(among(x, page(pa), count), ONE, old));
          },
        },
      },
      2: {
        ...overBlock(1),
        memories: {
          owner: (now, entry) => {
            const [count, first, frame] = [local(now, 1), indexIn(now, 3), extract(39, 0, local(now, 4))];
            const handle = word(now, vmField(m, vmIndex(local(now, 0)), "handle"));
            return memory(entry, "owner").rewrite((key, old) => {
              const given = concat(extract(23, 0, handle), add(frame, zext(sub(key, first), 40)));
              return ite(among(key, first, count), given, old);
            });
          },
        },
      },
    },
    spec(c) {
      const [vm, ipa, leaf] = c.args as [Term, Term, Term];
      const { before, state } = c;
      const slot = theVm(c, m, vm);
      requireNothingStale(c);
      requireCounts(c, m);
      c.require("LOCK_HOSTMAP is held", ghost(before, "hostmapHeld"));
      c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
      c.require("the VM's lock is held", rootLocked(before, slot));
      c.require("the host proposes a block", ult(extract(1, 0, leaf), bv(3, 2)));
      c.require("it is a private VM", holds(before, "isPrivate", slot));
      c.require("it has lost no page", not(isBroken(before, m, slot)));
      c.require(
        "the host proposes it, and may write it",
        and(eq(leaf, proposedAt(before, slot, page(ipa))), mayWrite(leaf)),
      );
      const bits = word(before, vmField(m, slot, "ipaBits"));
      c.require("the address is in the VM's range", inRange(before, m, slot, bits, ipa));
      const result = c.result(32);
      const done = eq(result, Fill("MAPPED"));
      failsExhausted(c, eq(result, Fill("REFUSED")));
      const from = page(leaf);
      treesChange(c, m, HOST_ROOT, slot);
      c.havoc("paged");
      c.ensureAll("the host's tables stay", "paged", (x, now) =>
        implies(holds(before, "paged", x), holds(now, "paged", x)),
      );
      const inside = (root: Term, x: Term) => (key: Term) =>
        and(eq(extract(43, 36, key), root), sameBlock(extract(35, 0, key), x));
      rewrite(state, "mapped", inside(HOST_ROOT, from), () => ZERO, done);
      rewrite(state, "mapped", inside(slot, page(ipa)), () => ONE, done);
      rewrite(
        state,
        "cleaned",
        (x) => sameBlock(x, from),
        () => ONE,
        done,
      );
      const handle = read(before, "handle", slot);
      const frameOf = (x: Term) => zext(concat(extract(35, 9, page(ipa)), extract(8, 0, x)), 40);
      rewrite(
        state,
        "owner",
        (key) => sameBlock(pageAt(m, key), from),
        (key) => concat(handle, frameOf(pageAt(m, key))),
        done,
      );
      const names = ["MAPPED", "ABSENT", "REFUSED"] as const;
      c.ensure("it is one of Fill", or(...names.map((name) => eq(result, Fill(name)))));
      for (const name of names) c.can(name, eq(result, Fill(name)));
      return result;
    },
  };
}
