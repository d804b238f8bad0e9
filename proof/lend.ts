/**
 * Lending pages to ordinary VMs and taking them back: what is mapped for such a VM is the host's and counted, so that it is not donated.
 *
 * While LOCK_S2PAGE is free, the use count of each page of the host is the number of leaves that map it and of pins. Each function here
 * keeps that: it starts where the counts agree, and ends where they do.
 */
import {
  add,
  and,
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
  sub,
  type Term,
  TRUE,
  uge,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { countsAgree, countsFit, leafLives, linked, rootLevel, vmField, vmStays } from "./invariants.ts";
import { vmIndex } from "./linear.ts";
import { inRange, settled, slotKey } from "./pgtable.ts";
import { reaches } from "./profile.ts";
import {
  anySlot,
  covers,
  entryKey,
  failsExhausted,
  ghost,
  holds,
  inRam,
  inTree,
  isAligned,
  isAnyRoot,
  isCountedLeaf,
  isDetached,
  isHosts,
  isMine,
  isNobodys,
  isOrdinary,
  isPhysical,
  isValid,
  isValidLeaf,
  known,
  type Machine,
  mappedKey,
  memory,
  nothingStale,
  OWNER_HOST,
  ownerOf,
  page,
  pageAt,
  payloadOf,
  placeAt,
  positionKey,
  prefix,
  ramIndex,
  read,
  requireNothingStale,
  rewrite,
  rootLocked,
  rootOf,
  Stale,
  tlbRoot,
  tree,
  Use,
  within,
  word,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

/** Results of `fill` and its parts, as in kcore/memory.ts. */
export const Fill = { MAPPED: 0, ABSENT: 1, READ_ONLY: 2, REFUSED: 3, DENIED: 4 } as const;

const narrow = (level: Term): Term => extract(1, 0, level);
const ONE_USE = bv(1, 64);

/** The canonical form of a pointer to a VM record. */
export const vmForm =
  (m: Machine) =>
  (vm: Term): Term =>
    vmField(m, vmIndex(vm), "slot");

/** The root of the VM whose record is at `vm`; demands that it is a VM and stays. */
export function theVm(c: Clause, m: Machine, vm: Term): Term {
  const root = vmIndex(vm);
  c.require("the VM exists, and stays", and(vmStays(c.before, root), holds(c.before, "alive", root)));
  c.require("its record names its slot", eq(word(c.before, vmField(m, root, "slot")), zext(root, 64)));
  return root;
}

/** As `theVm`, demanding besides that the VM's root is locked, its owner table too, and that `ipa` is in the VM's range. */
function theTree(c: Clause, m: Machine, vm: Term, ipa: Term): Term {
  const root = theVm(c, m, vm);
  const bits = word(c.before, vmField(m, root, "ipaBits"));
  c.require("the root's lock is held", rootLocked(c.before, root));
  c.require("the address is in the VM's range", inRange(c.before, m, root, bits, ipa));
  return root;
}

/** Starts a proof about a VM where its record's slot is known, no invalidation is under way, and the locks `free` are not held. */
export function givenVm(
  m: Machine,
  name: string,
  { ordinary = false, free = ["poolHeld"] as readonly ("poolHeld" | "s2pageHeld")[] } = {},
): (state: State) => void {
  return (state) => {
    const root = vmIndex(variable(`${name}.vm`, 32));
    const set = (field: string, value: Term) =>
      write(state, "linear", extract(31, 3, vmField(m, root, field)), value);
    set("slot", zext(root, 64));
    if (ordinary) {
      set("privateMemory", bv(0, 64));
      write(state, "isPrivate", root, bv(0, 1));
    }
    state.ghosts.stale = Stale.NO;
    for (const lock of free) state.ghosts[lock] = FALSE;
  };
}

/** Demands that the VM is ordinary, in its record as in truth. */
function requireOrdinary(c: Clause, m: Machine, root: Term): void {
  const flag = word(c.before, vmField(m, root, "privateMemory"));
  c.require("the VM is ordinary", and(eq(flag, bv(0, 64)), isOrdinary(c.before, root)));
}

/** Demands LOCK_S2PAGE, with all counts as they should be; states that entries and pins are fewer than a count can hold. */
export function requireCounts(c: Clause, m: Machine): void {
  c.require("LOCK_S2PAGE is held", ghost(c.before, "s2pageHeld"));
  c.requireAll("counts agree", "owner", (index) => countsAgree(c.before, m, index));
  c.recallAll("owner", (state, index) => countsFit(state, index));
}

/** Leaves use counts and references to the function, if `condition`: owners stay, and the counts agree. */
export function countsChange(c: Clause, m: Machine, condition: Term = TRUE): void {
  const { before } = c;
  c.havoc("refs", () => condition);
  c.havoc("owner", () => condition);
  c.ensureAll("only use counts of the host's pages change", "owner", (index, now) =>
    onlyCounts(before, now, index),
  );
  c.ensureAll("counts agree", "owner", (index, now) => countsAgree(now, m, index));
}

/** Whether the owner entry of page `index` is what it was, but for the count of a page of the host. */
function onlyCounts(before: State, now: State, index: Term): Term {
  const old = read(before, "owner", index);
  const entry = read(now, "owner", index);
  return and(eq(ownerOf(entry), ownerOf(old)), or(eq(ownerOf(old), OWNER_HOST), eq(entry, old)));
}

/** The invariant that each page which the counted leaf at `key` maps is the host's and referenced, of page `index` of RAM. */
function used(state: State, m: Machine, key: Term, index: Term): Term {
  const { level, entry } = placeAt(state, key);
  const x = pageAt(m, index);
  return implies(within(level, page(entry), x), leafLives(state, m, key, sub(x, page(entry))));
}

/**
 * The leaf at `place` of an ordinary VM goes, if `condition`: its pages, which are the host's and referenced, lose a reference, and a use.
 * Callers see from the way it is stated that nothing underflows, and that counts agree.
 */
function drop(state: State, m: Machine, place: ReturnType<typeof placeAt>, condition: Term = TRUE): void {
  const mapped = (index: Term) => within(place.level, page(place.entry), pageAt(m, index));
  const none = bv(0, 40);
  rewrite(state, "refs", mapped, (_, old) => ite(eq(old, none), none, sub(old, bv(1, 40))), condition);
  const [refs, pins] = [memory(state, "refs"), memory(state, "pins")];
  const counted = (index: Term) => concat(OWNER_HOST, add(refs.read(index), pins.read(index)));
  rewrite(
    state,
    "owner",
    mapped,
    (index, old) => ite(eq(ownerOf(old), OWNER_HOST), counted(index), old),
    condition,
  );
}

/** Whether page `index` is one of the first `count` of those from `first` on; both 64 bits. */
const among = (index: Term, first: Term, count: Term): Term =>
  ult(zext(sub(index, extract(35, 0, first)), 64), count);

function dropUses(m: Machine): Contract {
  return {
    // Counts one use less of each page of a leaf that is gone from the tables and every TLB.
    function: "memory/dropUses",
    parameters: ["entry", "level"],
    given: nothingStale,
    loops: {
      0: {
        invariant: (now) => ({ "the block has 512 pages": ule(now.locals[0] as Term, bv(512, 64)) }),
        variant: (now) => sub(bv(512, 64), now.locals[0] as Term),
        memories: {
          owner: (now, entry) =>
            memory(entry, "owner").rewrite((index, old) =>
              ite(among(index, entry.locals[2] as Term, now.locals[0] as Term), sub(old, ONE_USE), old),
            ),
        },
      },
    },
    spec(c) {
      const [entry, level] = c.args as [Term, Term];
      const { before, state } = c;
      const [at, first] = [narrow(level), page(entry)];
      const last = add(first, ite(eq(at, bv(2, 2)), bv(511, 36), bv(0, 36)));
      requireNothingStale(c);
      c.require("LOCK_S2PAGE is held", ghost(before, "s2pageHeld"));
      c.require("it is a page, or a block of 512", or(eq(level, bv(2, 32)), eq(level, bv(3, 32))));
      c.require("the block is aligned", eq(prefix(at, first), first));
      c.require(
        "it is RAM",
        and(inRam(m, first), inRam(m, last), ule(ramIndex(m, first), ramIndex(m, last))),
      );
      const mapped = (index: Term) => within(at, first, pageAt(m, index));
      const count = (state: State, index: Term) =>
        add(read(state, "refs", index), read(state, "pins", index));
      c.requireAll("a use too many is counted of the host's pages there", "owner", (index) => {
        const owned = read(before, "owner", index);
        const more = eq(payloadOf(owned), add(count(before, index), bv(1, 40)));
        return implies(mapped(index), and(eq(ownerOf(owned), OWNER_HOST), more));
      });
      c.recallAll("owner", (state, index) => countsFit(state, index));
      rewrite(state, "owner", mapped, (index) => concat(OWNER_HOST, count(before, index)));
      c.can("a block goes", eq(level, bv(2, 32)));
      c.can("a page goes", eq(level, bv(3, 32)));
    },
  };
}

function dropEntry(m: Machine): Contract {
  return {
    // Empties an entry of an ordinary VM that holds a leaf, where no walk gets: it is retained, or its table is unlinked. Counts its uses down.
    function: "memory/dropEntry",
    parameters: ["slot", "entry", "level"],
    given: nothingStale,
    spec(c) {
      const [slot, entry, level] = c.args as [Term, Term, Term];
      const { before, state } = c;
      const place = placeAt(before, slotKey(slot));
      const root = rootOf(place.use);
      requireNothingStale(c);
      c.require("it is the address of an entry", and(isAligned(slot, 3), isPhysical(slot)));
      c.require("it is one of that level", eq(level, zext(place.level, 32)));
      c.require("it holds the entry", eq(entry, place.entry));
      c.require("no walk gets there", or(and(inTree(place.use), not(isValid(entry))), isDetached(place.use)));
      c.require("the root's lock is held", rootLocked(before, root));
      c.require("it is an ordinary VM's", isOrdinary(before, root));
      c.require("it is a leaf that is counted", isCountedLeaf(entry, place.level));
      requireCounts(c, m);
      requireUsed(c, m, place.key);
      drop(state, m, place);
      write(state, "pt", place.key, bv(0, 64));
      c.ensureAll("counts agree", "owner", (index, now) => countsAgree(now, m, index));
      c.can("a block goes", eq(place.level, bv(2, 2)));
      c.can("a page goes", eq(place.level, bv(3, 2)));
    },
  };
}

/** Uses that what the counted leaf at `key` maps is the host's and referenced. */
function requireUsed(c: Clause, m: Machine, key: Term): void {
  for (const name of ["owner", "refs"]) c.recallAll(name, (state, index) => used(state, m, key, index));
}

function dropLeaf(m: Machine): Contract {
  return {
    // Unmaps a leaf of a VM: no walk and no TLB finds it any more, and an ordinary VM's pages are used once less.
    function: "memory/dropLeaf",
    parameters: ["vm", "slot", "entry", "level", "ipa"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "dropLeaf", { free: [] }),
    spec(c) {
      const [vm, slot, entry, level, ipa] = c.args as [Term, Term, Term, Term, Term];
      const { before, state } = c;
      const root = theVm(c, m, vm);
      const place = placeAt(before, slotKey(slot));
      requireNothingStale(c);
      c.require("the root's lock is held", rootLocked(before, root));
      c.require("it is the address of an entry", and(isAligned(slot, 3), isPhysical(slot)));
      c.require("it is an entry of the VM's tree", eq(place.use, tree(root)));
      c.require("it is one of that level", eq(level, zext(place.level, 32)));
      c.require("it holds the entry", eq(entry, place.entry));
      c.require("it is a leaf", isValidLeaf(entry, place.level));
      c.require("it translates the address", and(isPhysical(ipa), covers(place, page(ipa))));
      requireCounts(c, m);
      requireUsed(c, m, place.key);
      const ordinary = isOrdinary(before, root);
      rewrite(
        state,
        "mapped",
        (key) => and(eq(extract(43, 36, key), root), covers(place, extract(35, 0, key))),
        () => bv(0, 1),
        not(ordinary),
      );
      drop(state, m, place, ordinary);
      write(state, "pt", place.key, bv(0, 64));
      staleMeanwhile(c);
      c.ensureAll("counts agree", "owner", (index, now) => countsAgree(now, m, index));
      c.can("an ordinary VM's leaf goes", ordinary);
      c.can("a private VM's leaf goes", not(ordinary));
    },
  };
}

/** Ghosts that mean nothing while nothing is stale, and whether writes may be seen: left to the function. */
function staleMeanwhile(c: Clause): void {
  for (const name of ["staleLevel", "staleTable", "unordered"]) c.havocGhost(name);
}

function emptyTable(m: Machine): Contract {
  return {
    // Empties a level 3 table that was unlinked from the VM's tree; what an ordinary VM mapped there is used once less.
    function: "memory/emptyTable",
    parameters: ["vm", "table"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "emptyTable", { free: [] }),
    loops: {
      0: {
        invariant: (now) => ({ "the table has 512 entries": ule(now.locals[2] as Term, bv(512, 64)) }),
        variant: (now) => sub(bv(512, 64), now.locals[2] as Term),
        everywhere: (now, entry) => ({
          "only use counts change": { memory: "owner", at: (index) => onlyCounts(entry, now, index) },
          "counts agree": { memory: "owner", at: (index) => countsAgree(now, m, index) },
        }),
        memories: {
          pt: (now, entry) => {
            const [table, count] = [now.locals[1] as Term, now.locals[2] as Term];
            return memory(entry, "pt").rewrite((key, old) => {
              const done = ult(zext(extract(8, 0, key), 64), count);
              return ite(and(eq(extract(44, 9, key), page(table)), done), bv(0, 64), old);
            });
          },
          refs: "any",
          owner: "any",
        },
        ghosts: {
          stale: (_, entry) => ghost(entry, "stale"),
          staleLevel: (_, entry) => ghost(entry, "staleLevel"),
          staleTable: (_, entry) => ghost(entry, "staleTable"),
        },
      },
    },
    spec(c) {
      const [vm, pa] = c.args as [Term, Term];
      const { before, state } = c;
      const root = theVm(c, m, vm);
      const table = page(pa);
      requireNothingStale(c);
      c.require("it is the address of a page", and(isAligned(pa, 12), isPhysical(pa)));
      c.require("the root's lock is held", rootLocked(before, root));
      c.require("it was unlinked from the VM's tree", eq(read(before, "use", table), Use.detached(root)));
      c.require("it is a table of pages", eq(read(before, "level", table), bv(3, 2)));
      requireCounts(c, m);
      const ordinary = isOrdinary(before, root);
      rewrite(
        state,
        "pt",
        (key) => eq(extract(44, 9, key), table),
        () => bv(0, 64),
      );
      countsChange(c, m, ordinary);
      c.havocGhost("unordered");
      c.can("an ordinary VM's table is emptied", ordinary);
      c.can("a private VM's table is emptied", not(ordinary));
    },
  };
}

function retainEntries(): Contract {
  return {
    // Makes all entries of a table above level 3 of an ordinary VM's tree invalid, and keeps what they were; TLBs may still hold them.
    function: "memory/retainEntries",
    parameters: ["table"],
    loops: {
      0: {
        invariant: (now, entry) => {
          const root = rootOf(read(entry, "use", page(now.locals[0] as Term)));
          return {
            "the table has 512 entries": ule(now.locals[1] as Term, bv(512, 64)),
            "what is stale was written": stalesOnly(entry, now, root),
          };
        },
        variant: (now) => sub(bv(512, 64), now.locals[1] as Term),
        memories: {
          pt: (now, entry) => {
            const [table, count] = [now.locals[0] as Term, now.locals[1] as Term];
            return memory(entry, "pt").rewrite((key, old) => {
              const done = ult(zext(extract(8, 0, key), 64), count);
              return ite(and(eq(extract(44, 9, key), page(table)), done), retained(old), old);
            });
          },
          ...Object.fromEntries(
            (["use", "level", "base", "parent", "position", "mapped", "refs"] as const).map((name) => [
              name,
              (_: State, entry: State) => memory(entry, name),
            ]),
          ),
        },
        ghosts: {
          stale: "any",
          staleLevel: "any",
          staleTable: "any",
          unordered: (_, entry) => ghost(entry, "unordered"),
        },
      },
    },
    spec(c) {
      const [pa] = c.args as [Term];
      const { before, state } = c;
      const table = page(pa);
      const use = read(before, "use", table);
      const root = rootOf(use);
      const stale = ghost(before, "stale");
      c.require("it is the address of a page", and(isAligned(pa, 12), isPhysical(pa)));
      c.require("it is an ordinary VM's table", and(inTree(use), isOrdinary(before, root)));
      c.require("it is above level 3", ne(read(before, "level", table), bv(3, 2)));
      c.require("the root's lock is held", rootLocked(before, root));
      c.require("no invalidation is half done", or(eq(stale, Stale.NO), eq(stale, Stale.WRITTEN)));
      rewrite(
        state,
        "pt",
        (key) => eq(extract(44, 9, key), table),
        (_, old) => retained(old),
      );
      for (const name of ["stale", "staleLevel", "staleTable"]) c.havocGhost(name);
      c.ensure("what is stale was written", stalesOnly(before, state, root));
      c.can("an entry goes stale", ne(ghost(state, "stale"), stale));
    },
  };
}

/** An entry, invalid. */
const retained = (entry: Term): Term => concat(extract(63, 1, entry), bv(0, 1));

/** Whether nothing went stale but what was written, in the tree of `root`. */
function stalesOnly(before: State, now: State, root: Term): Term {
  const [old, stale] = [ghost(before, "stale"), ghost(now, "stale")];
  return or(eq(stale, old), and(eq(stale, Stale.WRITTEN), eq(tlbRoot, root)));
}

/** Demands that the struct kvm of the VM with `root` is held in place. */
export function requireKvm(c: Clause, m: Machine, root: Term): void {
  const kvm = word(c.before, vmField(m, root, "kvmPa"));
  c.requireAll("struct kvm is held in place", "accessible", (x) =>
    implies(reaches(kvm, m.profile("kvmSize"), x), holds(c.before, "accessible", x)),
  );
}

/** Whether a table page is part of the tree of `root`. */
const isOf = (state: State, root: Term, table: Term): Term => eq(read(state, "use", table), tree(root));
const tableOf = (key: Term): Term => extract(44, 9, key);

/**
 * Leaves to the function, if `condition`, the entries of a root's tree and which tables are part of it: it may free some, and, if
 * `grows`, take some that were nobody's. What other roots have, and what is mapped, stays.
 */
function treeChanges(c: Clause, m: Machine, root: Term, grows: boolean, condition: Term = TRUE): void {
  const { before } = c;
  const taken = (table: Term) => (grows ? isNobodys(before, m, table) : FALSE);
  const inside = (table: Term) => and(condition, or(isOf(before, root, table), taken(table)));
  c.havoc("pt", (key) => inside(tableOf(key)));
  c.havoc("use", inside);
  if (grows) {
    for (const name of ["level", "base", "parent"] as const)
      c.havoc(name, (table) => and(inside(table), not(isAnyRoot(m, table))));
    c.havoc("position", (key) => and(condition, eq(extract(46, 39, key), root)));
  }
  c.ensureAll("tables are part of the tree, or nobody's", "use", (table, now) =>
    implies(inside(table), or(isOf(now, root, table), not(isMine(now, read(now, "use", table))))),
  );
}

/** Demands and promises that nothing is retained on the way to `x`. */
function requireSettled(c: Clause, root: Term, x: Term): void {
  c.requireAll("nothing is retained on the way", "pt", (key) => settled(c.before, root, x, key));
}
function ensureSettled(c: Clause, root: Term, x: Term): void {
  c.ensureAll("nothing is retained on the way", "pt", (key, now) => settled(now, root, x, key));
}

function settle(m: Machine): Contract {
  const [LEVEL, SLOT] = [4, 3];
  const key = variable("any pt", 45);
  return {
    // Takes apart what is retained on the way to `ipa`, or makes it valid where nothing below is: then nothing on the way is retained.
    function: "memory/settle",
    parameters: ["vm", "ipa"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "settle"),
    uses: {
      // What the host took back with one store stays taken back when the table is used again.
      pt_write: ({ state, args, oblige }: Call) => {
        const entry = args[1] as Term;
        const below = read(state, "pt", concat(page(entry), anySlot));
        oblige("a table that is valid again maps nothing", implies(isValid(entry), not(isValid(below))));
      },
    },
    loops: {
      0: {
        invariant: (now, entry) => {
          const root = vmIndex(entry.locals[0] as Term);
          const [level, slot] = [now.locals[LEVEL] as Term, now.locals[SLOT] as Term];
          const place = placeAt(now, slotKey(slot));
          return {
            "the level is one of the tree's": ule(level, bv(3, 32)),
            "the slot is an entry": and(isPhysical(slot), isAligned(slot, 3)),
            "the slot stands at the level": and(
              eq(place.use, tree(root)),
              eq(place.level, narrow(level)),
              covers(place, page(entry.locals[1] as Term)),
            ),
            "no other table stands there": eq(
              read(now, "position", positionKey(root, place.level, read(now, "base", place.table))),
              place.table,
            ),
          };
        },
        variant: (now) => sub(bv(4, 32), now.locals[LEVEL] as Term),
        everywhere: (now, entry) => {
          const root = vmIndex(entry.locals[0] as Term);
          const x = page(entry.locals[1] as Term);
          return {
            "nothing above is retained": {
              memory: "pt",
              at: (key) => {
                const above = ult(zext(read(now, "level", tableOf(key)), 32), now.locals[LEVEL] as Term);
                return implies(above, settled(now, root, x, key));
              },
            },
          };
        },
        memories: {
          // Entries change only whether they are valid.
          pt: {
            open: (_, entry, rest) => {
              const root = vmIndex(entry.locals[0] as Term);
              return memory(entry, "pt").rewrite((key, old) => {
                const own = and(isOf(entry, root, tableOf(key)), isOrdinary(entry, root));
                return ite(own, concat(extract(63, 1, old), extract(0, 0, rest.read(key))), old);
              });
            },
          },
          ...Object.fromEntries(
            (["use", "level", "base", "parent", "position", "mapped", "refs"] as const).map((name) => [
              name,
              (_: State, entry: State) => memory(entry, name),
            ]),
          ),
        },
        ghosts: {
          stale: (_, entry) => ghost(entry, "stale"),
          staleLevel: "any",
          staleTable: "any",
          unordered: "any",
        },
      },
    },
    spec(c) {
      const [vm, ipa] = c.args as [Term, Term];
      const { before } = c;
      const root = theTree(c, m, vm, ipa);
      const flag = word(before, vmField(m, root, "privateMemory"));
      requireNothingStale(c);
      c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
      c.require("its record says whether it is private", eq(flag, zext(read(before, "isPrivate", root), 64)));
      requireCounts(c, m);
      c.recallAll("use", (state, table) => linked(state, m, table));
      c.recall((state) => linked(state, m, tableOf(key)));
      const ordinary = isOrdinary(before, root);
      treeChanges(c, m, root, false, ordinary);
      countsChange(c, m, ordinary);
      staleMeanwhile(c);
      ensureSettled(c, root, page(ipa));
      c.can("it returns", TRUE);
    },
  };
}

/** Where a function puts a leaf of `level`: an entry of the VM's tree that is empty by now. */
const atEmptyEntry = (m: Machine, level: number): NonNullable<Contract["uses"]> => {
  const inTree = (call: Call, slot: Term, vm: Term) => {
    known(call, "use", page(slot), tree(vmIndex(vm)));
    known(call, "level", page(slot), bv(level, 2));
  };
  return {
    // A table of the tree stands where the tables say.
    pt_read: (call) => call.assume(linked(call.state, m, page(call.args[0] as Term))),
    pt_write: (call, [vm]) => {
      const [slot] = call.args as [Term];
      inTree(call, slot, vm as Term);
      known(call, "pt", slotKey(slot), bv(0, 64));
    },
  };
};

/** The table and the entry of `level` for input page `x` in the tree of `root`, where the tables say that it stands. */
function entryFor(state: State, root: Term, level: number, x: Term): { table: Term; entry: Term } {
  const key = entryKey(state, root, level, x);
  return { table: tableOf(key), entry: read(state, "pt", key) };
}

/** Types of memory that mean the same with and without HCR_EL2.FWB: devices, and non-cacheable (Arm ARM D8.6.6). */
const keepsType = (type: Term): Term => or(ult(type, bv(4, 4)), eq(type, bv(5, 4)));

/** Whether `entry` maps what `leaf` proposes, or the block of 2 MiB around it: with that permission, and that type or write-back. */
function asProposed(m: Machine, entry: Term, leaf: Term, level: number): Term {
  const type = extract(5, 2, leaf);
  const normal = ite(eq(m.core("forceWriteBack"), bv(0, 64)), bv(0xf, 4), bv(6, 4));
  const target = level === 2 ? concat(extract(47, 21, leaf), bv(0, 9)) : extract(47, 12, leaf);
  const parts = [
    [bv(0, 9), extract(54, 53, leaf), bv(0, 5), target],
    [bv(0, 1), bv(1, 1), bv(3, 2), extract(7, 6, leaf)],
    [ite(keepsType(type), type, normal), bv(level === 3 ? 3 : 1, 2)],
  ];
  return eq(entry, concat(...parts.flat()));
}

/** What `lendBlock` and `lendPage` share: they put a leaf of an ordinary VM for `ipa` where nothing is retained. */
function lends(c: Clause, m: Machine, level: number): Term {
  const [vm, ipa, leaf] = c.args as [Term, Term, Term];
  const root = theTree(c, m, vm, ipa);
  requireNothingStale(c);
  requireOrdinary(c, m, root);
  c.require("LOCK_POOL is not held", not(ghost(c.before, "poolHeld")));
  requireCounts(c, m);
  requireSettled(c, root, page(ipa));
  if (level < 3) c.require("the host proposes a block", ult(extract(1, 0, leaf), bv(3, 2)));
  const status = c.result(32);
  treeChanges(c, m, root, true);
  countsChange(c, m);
  staleMeanwhile(c);
  ensureSettled(c, root, page(ipa));
  const is = (code: number) => eq(status, bv(code, 32));
  const { table, entry } = entryFor(c.state, root, level, page(ipa));
  c.ensure(
    "what is mapped is what was proposed",
    implies(is(Fill.MAPPED), and(isOf(c.state, root, table), asProposed(m, entry, leaf, level))),
  );
  c.can("it is mapped", is(Fill.MAPPED));
  c.can("it is refused", is(Fill.REFUSED));
  return status;
}

function lendBlock(m: Machine): Contract {
  return {
    // Lends the block around the page that `leaf` proposes, if all of it is the host's and no table is there.
    function: "memory/lendBlock",
    parameters: ["vm", "ipa", "leaf"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "lendBlock", { ordinary: true }),
    uses: atEmptyEntry(m, 2),
    loops: {
      0: {
        invariant: (now) => ({
          "the block has 512 pages": ule(now.locals[3] as Term, bv(512, 64)),
          "it is found out, or not": ule(now.locals[6] as Term, bv(1, 32)),
        }),
        variant: (now) => sub(bv(512, 64), now.locals[3] as Term),
        everywhere: (now, entry) => ({
          "nothing changes": {
            memory: "owner",
            at: (index) => eq(read(now, "owner", index), read(entry, "owner", index)),
          },
          "what was seen is the host's": {
            memory: "owner",
            at: (index) => {
              const seen = among(index, now.locals[4] as Term, now.locals[3] as Term);
              const all = eq(now.locals[6] as Term, bv(1, 32));
              return implies(and(all, seen), eq(ownerOf(read(now, "owner", index)), OWNER_HOST));
            },
          },
        }),
        memories: { owner: "any" },
      },
      1: {
        invariant: (now) => ({ "the block has 512 pages": ule(now.locals[1] as Term, bv(512, 64)) }),
        variant: (now) => sub(bv(512, 64), now.locals[1] as Term),
        memories: {
          owner: (now, entry) =>
            memory(entry, "owner").rewrite((index, old) =>
              ite(among(index, entry.locals[3] as Term, now.locals[1] as Term), add(old, ONE_USE), old),
            ),
        },
      },
    },
    spec(c) {
      const status = lends(c, m, 2);
      failsExhausted(c, eq(status, bv(Fill.REFUSED, 32)));
      c.ensure("it says what became of it", or(...[0, 1, 3].map((code) => eq(status, bv(code, 32)))));
      c.can("it must be mapped page by page", eq(status, bv(Fill.ABSENT, 32)));
      return status;
    },
  };
}

function lendPage(m: Machine): Contract {
  return {
    // Lends the page that `leaf` proposes, if it is the host's.
    function: "memory/lendPage",
    parameters: ["vm", "ipa", "leaf"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "lendPage", { ordinary: true }),
    uses: atEmptyEntry(m, 3),
    spec(c) {
      const status = lends(c, m, 3);
      const leaf = c.args[2] as Term;
      c.recallAll("use", (state, table) => linked(state, m, table));
      failsExhausted(c, and(eq(status, bv(Fill.REFUSED, 32)), isHosts(c.before, m, page(leaf))));
      c.ensure("it says what became of it", or(...[0, 3].map((code) => eq(status, bv(code, 32)))));
      return status;
    },
  };
}

/** Whether the leaf `leaf` of the host's tables allows an access, given as FAULT_* bits: a write, a fetch, or else a read (Arm ARM D8.4). */
function allows(leaf: Term, fault: Term): Term {
  const bit = (n: number, of: Term) => eq(extract(n, n, of), bv(1, 1));
  const [mayRead, mayWrite, neverExecutes] = [6, 7, 54].map((n) => bit(n, leaf)) as [Term, Term, Term];
  return ite(bit(1, fault), mayWrite, ite(bit(2, fault), not(neverExecutes), mayRead));
}

function lend(m: Machine): Contract {
  return {
    // Takes the host's proposal for an ordinary VM: it is mapped, or the host must decide, or the VM must not have it.
    function: "memory/lend",
    parameters: ["vm", "ipa", "fault"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "lend", { ordinary: true, free: ["s2pageHeld", "poolHeld"] }),
    uses: {
      "lock/release": ({ state, oblige }: Call) => {
        const [, , , leaf, status] = state.locals as Term[];
        const refused = and(eq(status as Term, bv(Fill.REFUSED, 32)), isHosts(state, m, page(leaf as Term)));
        oblige(
          "a page of the host's is lent while the pool has tables",
          implies(refused, ghost(state, "exhausted")),
        );
      },
    },
    spec(c) {
      const [vm, ipa, fault] = c.args as [Term, Term, Term];
      const { before, state } = c;
      const root = theTree(c, m, vm, ipa);
      requireNothingStale(c);
      requireOrdinary(c, m, root);
      requireKvm(c, m, root);
      for (const lock of ["s2pageHeld", "poolHeld"] as const)
        c.require(`no lock is held that is taken: ${lock}`, not(ghost(before, lock)));
      const status = c.result(32);
      treeChanges(c, m, root, true);
      staleMeanwhile(c);
      const is = (code: number) => eq(status, bv(code, 32));
      const at = mappedKey(root, page(ipa));
      c.havoc("proposed", (key) => eq(key, at));
      const leaf = read(state, "proposed", at);
      const some = ne(leaf, bv(0, 64));
      const level = extract(1, 0, leaf);
      const denied = eq(status, concat(bv(0, 27), level, bv(Fill.DENIED, 3)));
      c.ensure("what the host's tables forbid is denied", eq(denied, and(some, not(allows(leaf, fault)))));
      c.ensure("where they propose nothing, the host must decide", eq(is(Fill.ABSENT), not(some)));
      c.ensure("it says what became of it", or(is(Fill.MAPPED), is(Fill.ABSENT), is(Fill.REFUSED), denied));
      c.can("it is mapped", is(Fill.MAPPED));
      const leaves = [2, 3].map((level) => {
        const { table, entry } = entryFor(state, root, level, page(ipa));
        return and(isOf(state, root, table), asProposed(m, entry, leaf, level));
      });
      c.ensure("what is mapped is what was proposed", implies(is(Fill.MAPPED), or(...leaves)));
      c.can("the host must decide", is(Fill.ABSENT));
      c.can("it is refused", is(Fill.REFUSED));
      for (const n of [1, 2, 3])
        c.can(`the proposal of level ${n} forbids the access`, and(denied, eq(level, bv(n, 2))));
      return status;
    },
  };
}

function isEmpty(): Contract {
  return {
    // Whether all 512 entries of a table that this CPU holds are empty. Where it says so, they are.
    function: "memory/isEmpty",
    parameters: ["table"],
    loops: {
      0: {
        invariant: (now) => ({
          "the table has 512 entries": ule(now.locals[1] as Term, bv(512, 64)),
          "it is found out, or not": ule(now.locals[2] as Term, bv(1, 32)),
        }),
        variant: (now) => sub(bv(512, 64), now.locals[1] as Term),
        everywhere: (now, entry) => ({
          "nothing changes": {
            memory: "pt",
            at: (key) => eq(read(now, "pt", key), read(entry, "pt", key)),
          },
          "what was seen is empty": {
            memory: "pt",
            at: (key) => {
              const seen = ult(zext(extract(8, 0, key), 64), now.locals[1] as Term);
              const inTable = eq(tableOf(key), page(now.locals[0] as Term));
              const all = eq(now.locals[2] as Term, bv(1, 32));
              return implies(and(all, seen, inTable), eq(read(now, "pt", key), bv(0, 64)));
            },
          },
        }),
        memories: { pt: "any" },
      },
    },
    spec(c) {
      const [pa] = c.args as [Term];
      const { before, state } = c;
      c.require("it is the address of a page", and(isAligned(pa, 12), isPhysical(pa)));
      c.require("the table is this CPU's", isMine(before, read(before, "use", page(pa))));
      const result = c.result(32);
      const empty = eq(result, bv(1, 32));
      c.ensure("it says whether it is empty", ule(result, bv(1, 32)));
      // Written again, so that callers see it at every entry.
      rewrite(
        state,
        "pt",
        (key) => and(empty, eq(tableOf(key), page(pa))),
        () => bv(0, 64),
      );
      c.can("it is empty", empty);
      c.can("it is not", not(empty));
      return result;
    },
  };
}

function freeTable(m: Machine): Contract {
  return {
    // Gives back the table below the entry of `level` for `ipa`, if it is empty; nothing that is mapped changes.
    function: "memory/freeTable",
    parameters: ["vm", "ipa", "level"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "freeTable"),
    spec(c) {
      const [vm, ipa, level] = c.args as [Term, Term, Term];
      const { before } = c;
      const root = theTree(c, m, vm, ipa);
      requireNothingStale(c);
      c.require("LOCK_POOL is not held", not(ghost(before, "poolHeld")));
      c.require(
        "the level is the tree's, above tables that may be empty",
        and(ule(level, bv(1, 32)), ule(zext(rootLevel(before, m, root), 32), level)),
      );
      treeChanges(c, m, root, false);
      mappingsGo(c, root);
      staleMeanwhile(c);
      c.can("it returns", TRUE);
    },
  };
}

/** Leaves it to the function which mappings of a root go. */
function mappingsGo(c: Clause, root: Term): void {
  const before = c.before;
  const own = (key: Term) => eq(extract(43, 36, key), root);
  c.havoc("mapped", own);
  c.ensureAll("nothing is mapped that was not", "mapped", (key, now) =>
    implies(holds(now, "mapped", key), holds(before, "mapped", key)),
  );
}

function dismantle(m: Machine): Contract {
  return {
    // Takes apart what a VM maps from `ipa` on, in one region; returns the first address behind.
    function: "memory/dismantle",
    parameters: ["vm", "ipa"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "dismantle", { free: ["s2pageHeld", "poolHeld"] }),
    spec(c) {
      const [vm, ipa] = c.args as [Term, Term];
      const { before } = c;
      const root = theTree(c, m, vm, ipa);
      const flag = word(before, vmField(m, root, "privateMemory"));
      requireNothingStale(c);
      c.require("its record says whether it is private", eq(flag, zext(read(before, "isPrivate", root), 64)));
      for (const lock of ["s2pageHeld", "poolHeld"] as const)
        c.require(`no lock is held that is taken: ${lock}`, not(ghost(before, lock)));
      const next = c.result(64);
      treeChanges(c, m, root, false);
      mappingsGo(c, root);
      const ordinary = isOrdinary(before, root);
      const inside = (x: Term) => and(uge(x, page(ipa)), ult(zext(x, 37), extract(48, 12, next)));
      c.ensureAll("nothing of a private VM is mapped there", "mapped", (key, now) => {
        const there = and(eq(extract(43, 36, key), root), inside(extract(35, 0, key)));
        return implies(and(not(ordinary), there), not(holds(now, "mapped", key)));
      });
      staleMeanwhile(c);
      c.ensure("it goes on", and(ult(ipa, next), ule(next, bv(1n << 48n, 64))));
      c.ensure("it goes on at a region", isAligned(next, 21));
      c.can("it returns", TRUE);
      return next;
    },
  };
}

export function lendContracts({ m }: Core): Contract[] {
  return [
    dropUses(m),
    dropEntry(m),
    dropLeaf(m),
    emptyTable(m),
    retainEntries(),
    settle(m),
    lendBlock(m),
    lendPage(m),
    lend(m),
    isEmpty(),
    freeTable(m),
    dismantle(m),
  ];
}
