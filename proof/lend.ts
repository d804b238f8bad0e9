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
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  isConst,
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
import { countsAgree, countsFit, leafLives, linked, vmField, vmStays } from "./invariants.ts";
import { vmIndex } from "./linear.ts";
import { goesStale, hostAccess } from "./machine.ts";
import { extendTree, inRange, isSlot, settled, slotKey } from "./pgtable.ts";
import {
  covers,
  ghost,
  HOST_ROOT,
  hasTableBit,
  holds,
  inRam,
  inTree,
  isAligned,
  isCountedLeaf,
  isDetached,
  isHosts,
  isMine,
  isNobodys,
  isOrdinary,
  isPhysical,
  isTableEntry,
  isValid,
  isValidLeaf,
  type Machine,
  mappedKey,
  memory,
  OWNER_HOST,
  ownerOf,
  page,
  pageAt,
  payloadOf,
  placeAt,
  positionKey,
  read,
  requireNothingStale,
  rewrite,
  rootLocked,
  rootOf,
  Stale,
  setGhost,
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

/** Starts a proof about a VM where its record's slot is known, and no invalidation is under way. */
export function givenVm(m: Machine, name: string, ordinary = false): (state: State) => void {
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
 * The leaf at `place` of an ordinary VM goes, if `condition`: its pages, which are the host's, lose a reference, and a use. A use count
 * is stated as what it counts, so that callers see it agree.
 */
function drop(state: State, m: Machine, place: ReturnType<typeof placeAt>, condition: Term = TRUE): void {
  const mapped = (index: Term) => within(place.level, page(place.entry), pageAt(m, index));
  rewrite(state, "refs", mapped, (_, old) => sub(old, bv(1, 40)), condition);
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

function dropEntry(m: Machine): Contract {
  return {
    // Empties an entry of an ordinary VM's tree, or of a table unlinked from it, that holds a leaf, and counts the leaf's uses down.
    function: "memory/dropEntry",
    parameters: ["slot", "entry", "level"],
    loops: {
      0: {
        invariant: (now) => ({ "the block has 512 pages": ule(now.locals[1] as Term, bv(512, 64)) }),
        variant: (now) => sub(bv(512, 64), now.locals[1] as Term),
        memories: {
          owner: (now, entry) =>
            memory(entry, "owner").rewrite((index, old) =>
              ite(
                among(index, entry.locals[0] as Term, now.locals[1] as Term),
                sub(old, ONE_USE),
                old,
              ),
            ),
        },
      },
    },
    spec(c) {
      const [slot, entry, level] = c.args as [Term, Term, Term];
      const { before, state } = c;
      const place = placeAt(before, slotKey(slot));
      const root = rootOf(place.use);
      c.require("it is the address of an entry", and(isAligned(slot, 3), isPhysical(slot)));
      c.require("it is one of that level", eq(level, zext(place.level, 32)));
      c.require("it holds the entry", eq(entry, place.entry));
      c.require("it is or was in a tree", or(inTree(place.use), isDetached(place.use)));
      c.require("the root's lock is held", rootLocked(before, root));
      c.require("it is an ordinary VM's", isOrdinary(before, root));
      c.require("it is a leaf that is counted", isCountedLeaf(entry, place.level));
      requireCounts(c, m);
      c.recallAll("owner", (state, index) => used(state, m, place.key, index));
      goesStale(state, place, and(inTree(place.use), isValid(entry)));
      drop(state, m, place);
      write(state, "pt", place.key, bv(0, 64));
      c.ensureAll("counts agree", "owner", (index, now) => countsAgree(now, m, index));
      c.can("a block goes", eq(place.level, bv(2, 2)));
      c.can("a page goes", eq(place.level, bv(3, 2)));
    },
  };
}

function dropLeaf(m: Machine): Contract {
  return {
    // Unmaps a leaf of a VM: no walk and no TLB finds it any more, and an ordinary VM's pages are used once less.
    function: "memory/dropLeaf",
    parameters: ["vm", "slot", "entry", "level", "ipa"],
    forms: { 0: vmForm(m) },
    given: givenVm(m, "dropLeaf"),
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
    given: givenVm(m, "emptyTable"),
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

function retainEntries(m: Machine): Contract {
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
        ghosts: { stale: "any", staleLevel: "any", staleTable: "any", unordered: (_, entry) => ghost(entry, "unordered") },
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

export function lendContracts({ m }: Core): Contract[] {
  return [dropEntry(m), dropLeaf(m), emptyTable(m), retainEntries(m)];
}
