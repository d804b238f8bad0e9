/**
 * What the host asks to be taken back from an ordinary VM's translation: it is gone from the VM's tables before others can go on, and from TLBs.
 */
import {
  and,
  bv,
  type Call,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  ne,
  not,
  or,
  type State,
  sub,
  type Term,
  ule,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { inVm } from "./donate.ts";
import { linked, rootLevel, vmField } from "./invariants.ts";
import { holdingNothing, Lock, letsGo, requireNothingHeld } from "./lock.ts";
import { standsAt } from "./pgtable.ts";
import { useVmRecord } from "./records.ts";
import {
  address,
  entryKey,
  ghost,
  isValid,
  known,
  type Machine,
  memory,
  only,
  page,
  read,
  Stale,
  setGhost,
  tlbRoot,
  tree,
  word,
} from "./state.ts";
import type { Core } from "./theory.ts";

const local = (state: State, n: number): Term => state.locals[n] as Term;

/** An arbitrary page of a VM: what is shown of it holds of all. */
export const somewhere = variable("somewhere", 36);

/** What TLBs and instruction caches may be made to forget: all of it on every CPU, or what one VMID has on this CPU. See `forgetting` and `forgot`. */
export const Forgotten = {
  EVERYTHING: bv(0b11 << 8, 10),
  ofVmid: (vmid: Term): Term => concat(bv(0b10, 2), vmid),
};

/** Whether page `somewhere` is that of `start` or behind, and before that of `end`. */
function isBetween(start: Term, end: Term): Term {
  const [from, to] = [extract(63, 12, start), extract(63, 12, end)];
  const at = zext(somewhere, 52);
  return and(ule(from, at), ult(at, to));
}

/** Whether an entry of a level down to `last` that the translation of page `x` by the tables of `root` needs is invalid. */
export function isTakenBack(state: State, m: Machine, root: Term, x: Term, last: 2 | 3): Term {
  const entries = [0, 1, 2, 3].slice(0, last + 1).map((n) => {
    const level = bv(n, 2);
    const key = entryKey(state, root, n, x);
    return and(
      ule(rootLevel(state, m, root), level),
      standsAt(state, key, root, level, x),
      not(isValid(read(state, "pt", key))),
    );
  });
  return or(...entries);
}

/** The slot of the VM that the host named last, and whether it is a private VM's. */
function namedVm(state: State, m: Machine): { exists: Term; root: Term; isPrivate: Term } {
  const named = ghost(state, "named");
  const root = extract(7, 0, named);
  const isPrivate = ne(word(state, vmField(m, root, "privateMemory")), bv(0, 64));
  return { exists: ne(named, bv(0, 64)), root, isPrivate };
}

/** Where LOCK_VMS is released, if the host named an ordinary VM: that `somewhere`, a page of its, is as `done` says. */
export function obligeTakenBack(call: Call, m: Machine, done: (root: Term) => Term): void {
  if (call.args[0] !== bv(Lock.VMS, 32)) return;
  const { exists, root, isPrivate } = namedVm(call.state, m);
  const isMeant = and(exists, not(isPrivate), inVm(call.state, m, root, address(somewhere)));
  call.oblige("what the host takes back is gone", implies(isMeant, done(root)));
}

/** Where LOCK_VMS is released, if `condition`: that this CPU has forgotten what it cached for the VM that the host named. */
export function obligeForgotten(call: Call, m: Machine, condition: Term): void {
  if (call.args[0] !== bv(Lock.VMS, 32)) return;
  const { exists, root } = namedVm(call.state, m);
  const isForgotten = eq(ghost(call.state, "forgot"), Forgotten.ofVmid(root));
  call.oblige("this CPU forgets what it cached for the VM", implies(and(condition, exists), isForgotten));
}

export function flushContracts({ m }: Core): Contract[] {
  return [
    {
      // Takes back what an ordinary VM maps from `ipa` up to `end`, in steps: where to go on, `end` or more when all is done. No TLB holds anything
      // of what is taken.
      function: "vm/flushRange",
      parameters: ["mmuVa", "ipa", "end"],
      given: holdingNothing,
      atReturn: (state, _, next) => setGhost(state, "flushedTo", next as Term),
      loops: {
        0: {
          invariant: (now, entry) => {
            const slot = extract(7, 0, local(entry, 4));
            const stale = ghost(now, "stale");
            return {
              "there are at most 16 steps": ule(local(now, 5), bv(16, 32)),
              "it goes on": or(eq(local(now, 5), bv(0, 32)), ult(local(entry, 1), local(now, 0))),
              "it does not go back": ule(local(entry, 1), local(now, 0)),
              "no invalidation has begun": or(eq(stale, Stale.NO), eq(stale, Stale.WRITTEN)),
              "only the VM's mappings go": or(eq(stale, Stale.NO), eq(tlbRoot, slot)),
              "what is behind is taken back": implies(
                and(isBetween(local(entry, 1), local(now, 0)), inVm(now, m, slot, address(somewhere))),
                isTakenBack(now, m, slot, somewhere, 2),
              ),
            };
          },
          variant: (now) => sub(bv(16, 32), local(now, 5)),
          memories: {
            pt: only("pt", (entry) => {
              const own = tree(extract(7, 0, local(entry, 4)));
              return (key) => eq(read(entry, "use", extract(44, 9, key)), own);
            }),
            mapped: (_, entry) => memory(entry, "mapped"),
            use: (_, entry) => memory(entry, "use"),
            refs: "any",
            isPrivate: (_, entry) =>
              memory(entry, "isPrivate").store(extract(7, 0, local(entry, 4)), bv(0, 1)),
          },
          ghosts: {
            stale: "any",
            staleLevel: "any",
            staleTable: "any",
            named: (_, entry) => ghost(entry, "named"),
            sought: (_, entry) => ghost(entry, "sought"),
          },
        },
      },
      uses: {
        "lock/acquire": (call) => useVmRecord(call, m, extract(7, 0, call.args[0] as Term)),
        "npt/nptWalk": (call) => useVmRecord(call, m, extract(7, 0, local(call.state, 4))),
        "vm/slotOfKvm": (call, [mmuVa]) =>
          call.oblige(
            "it is the VM whose MMU the host names",
            eq(call.args[0] as Term, sub(mmuVa as Term, m.profile("mmu"))),
          ),
        pt_read: (call) => call.assume(linked(call.state, m, page(call.args[0] as Term))),
        "lock/release": (call, [, ipa]) => {
          const next = call.state.locals[0] as Term;
          obligeTakenBack(call, m, (root) =>
            implies(isBetween(ipa as Term, next), isTakenBack(call.state, m, root, somewhere, 2)),
          );
        },
      },
      ghost: {
        pt_write: (call: Call) =>
          known(call, "use", page(call.args[0] as Term), tree(extract(7, 0, local(call.state, 4)))),
      },
      spec(c) {
        const [mmuVa, ipa, end] = c.args as [Term, Term, Term];
        requireNothingHeld(c);
        letsGo(c);
        setGhost(c.state, "sought", sub(mmuVa, m.profile("mmu")));
        const next = c.result(64);
        setGhost(c.state, "flushedTo", next);
        c.ensure("it goes on, or all is done", or(ule(end, next), ult(ipa, next)));
        c.can("all is done", ule(end, next));
        c.can("there is more to do", ult(next, end));
        return next;
      },
    },
  ];
}
