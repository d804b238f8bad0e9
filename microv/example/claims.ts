/** What is claimed of the monitor, in `monitor.ts`. Read it from top to bottom: state, machine, invariant, contracts, theorem. */
import { readFileSync } from "node:fs";
import {
  type Access,
  and,
  bv,
  type Claims,
  type Clause,
  type Contract,
  concat,
  eq,
  extract,
  implies,
  initialState,
  ite,
  Memory,
  type Module,
  ne,
  not,
  or,
  type State,
  type Term,
  TRUE,
  uge,
  ult,
  variable,
  WordMemory,
  zext,
} from "../index.ts";

// The state: linear memory, and for each page a ghost that says whether something of its owner may be in it.

const OWNERS = 0x1000;
const PAGES = bv(64, 32);
const NOBODY = bv(0, 64);

const arbitrary = (): State =>
  initialState({ linear: WordMemory.arbitrary("linear"), dirty: Memory.arbitrary("dirty", 32, 1) });

/** Key of a page's entry in the owner table, as a word of linear memory. */
const entry = (page: Term): Term => concat(bv(OWNERS >> 9, 23), extract(5, 0, page));
const owner = (state: State, page: Term): Term => (state.memories.linear as Memory).read(entry(page));
const isDirty = (state: State, page: Term): Term => eq((state.memories.dirty as Memory).read(page), bv(1, 1));

const setOwner = (state: State, page: Term, who: Term, condition: Term): void => {
  state.memories.linear = (state.memories.linear as Memory).store(entry(page), who, condition);
};
const setDirty = (state: State, page: Term, value: number | Term, condition: Term): void => {
  const bit = typeof value === "number" ? bv(value, 1) : value;
  state.memories.dirty = (state.memories.dirty as Memory).store(page, bit, condition);
};

// The machine: what the monitor may do, and when. A page changes hands only when nothing of its owner is left in it.

class OwnerTable extends WordMemory {
  override store(access: Access, value: Term): void {
    const page = zext(extract(8, 3, access.address), 32);
    const inTable = eq(extract(31, 9, access.address), bv(OWNERS >> 9, 23));
    access.oblige("the monitor writes its owner table and nothing else", inTable);
    access.oblige("a page is wiped before it changes hands", not(isDirty(access.state, page)));
    super.store(access, value);
    // Whoever has it now may write to it.
    setDirty(access.state, page, 1, ne(value, NOBODY));
  }
}

const models = {
  "machine.page_wipe": ({ state, args, oblige }: Parameters<Claims["theory"]["models"][string]>[0]) => {
    const [page] = args as [Term];
    oblige("only pages of the machine are wiped", ult(page, PAGES));
    setDirty(state, page, 0, ult(page, PAGES));
  },
};

// The invariant: a page that is nobody's holds nothing of anybody's.

const nobodysPagesAreClean = {
  name: "a page that is nobody's is clean",
  memory: "dirty",
  at: (state: State, page: Term) =>
    implies(and(ult(page, PAGES), eq(owner(state, page), NOBODY)), not(isDirty(state, page))),
};

// The contracts: what each call is for.

const OK = bv(0, 32);
const EPERM = bv(-1, 32);
const EBUSY = bv(-16, 32);
const EINVAL = bv(-22, 32);

const isPrincipal = (who: Term): Term => and(ne(who, bv(0, 32)), ult(who, bv(256, 32)));

/** The page goes to `to` if `condition`; whoever has it then may write to it. */
function handsOver(c: Clause, page: Term, to: Term, condition: Term): void {
  setOwner(c.state, page, to, condition);
  setDirty(c.state, page, ite(eq(to, NOBODY), bv(0, 1), bv(1, 1)), condition);
}

/** Result of a call that is refused for the first reason that applies: `[condition, code]`. */
function refused(c: Clause, reasons: readonly (readonly [Term, Term])[]): { result: Term; granted: Term } {
  let result = OK;
  for (const [condition, code] of [...reasons].reverse()) result = ite(condition, code, result);
  const granted = not(or(...reasons.map(([condition]) => condition)));
  for (const code of [OK, ...reasons.map(([, one]) => one)]) c.can(`result ${code.value}`, eq(result, code));
  return { result, granted };
}

const contracts: Contract[] = [
  {
    function: "monitor/claim",
    parameters: ["who", "page"],
    spec(c) {
      const [who, page] = c.args as [Term, Term];
      const { result, granted } = refused(c, [
        [or(not(isPrincipal(who)), uge(page, PAGES)), EINVAL],
        [ne(owner(c.before, page), NOBODY), EBUSY],
      ]);
      handsOver(c, page, zext(who, 64), granted);
      return result;
    },
  },
  {
    function: "monitor/give",
    parameters: ["who", "page", "to"],
    spec(c) {
      const [who, page, to] = c.args as [Term, Term, Term];
      const { result, granted } = refused(c, [
        [or(not(isPrincipal(who)), not(isPrincipal(to)), uge(page, PAGES)), EINVAL],
        [ne(owner(c.before, page), zext(who, 64)), EPERM],
      ]);
      handsOver(c, page, zext(to, 64), granted);
      return result;
    },
  },
  {
    function: "monitor/drop",
    parameters: ["who", "page"],
    spec(c) {
      const [who, page] = c.args as [Term, Term];
      const { result, granted } = refused(c, [
        [or(not(isPrincipal(who)), uge(page, PAGES)), EINVAL],
        [ne(owner(c.before, page), zext(who, 64)), EPERM],
      ]);
      handsOver(c, page, NOBODY, granted);
      return result;
    },
  },
  {
    function: "monitor/find",
    parameters: ["who"],
    spec(c) {
      const [who] = c.args as [Term];
      const result = c.result(32);
      const none = eq(result, bv(-1, 32));
      const anyPage = variable("anyPage", 32);
      c.ensure(
        "what is found is a page of the caller",
        implies(not(none), and(ult(result, PAGES), eq(owner(c.before, result), zext(who, 64)))),
      );
      c.ensure(
        "nothing is overlooked",
        implies(and(none, ult(anyPage, PAGES)), ne(owner(c.before, anyPage), zext(who, 64))),
      );
      c.can("a page is found", not(none));
      c.can("none is found", none);
      return result;
    },
  },
];

// The theorem: a call by one principal leaves the pages of every other as they are.

const integrity = (name: "claim" | "drop") => {
  const [who, page, other, any] = ["who", "page", "other", "any"].map((one) => variable(one, 32)) as [
    Term,
    Term,
    Term,
    Term,
  ];
  const before = arbitrary();
  const after = { ...before, memories: { ...before.memories } };
  const allowed = name === "claim" ? eq(owner(before, page), NOBODY) : eq(owner(before, page), zext(who, 64));
  setOwner(after, page, name === "claim" ? zext(who, 64) : NOBODY, allowed);
  return {
    name: `integrity: ${name} leaves the pages of others alone`,
    hypotheses: [
      isPrincipal(who),
      isPrincipal(other),
      ne(who, other),
      ult(page, PAGES),
      ult(any, PAGES),
      eq(owner(before, any), zext(other, 64)),
    ],
    goals: [{ name: "the page stays its owner's", path: TRUE, goal: eq(owner(after, any), zext(other, 64)) }],
  };
};

export function claimsOf(_module: Module): Claims {
  return {
    theory: {
      start: arbitrary,
      invariants: [nobodysPagesAreClean],
      hypotheses: [],
      models,
      linear: new OwnerTable(),
    },
    contracts,
    unproved: [],
    lemmas: [integrity("claim"), integrity("drop")],
    axioms: [{ name: "page_wipe", reason: "the machine fills exactly the page it is told with zeroes" }],
  };
}

export function dependencies(): string {
  return readFileSync(new URL(import.meta.url), "utf8");
}
