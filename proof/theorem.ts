/**
 * The security theorem.
 *
 * **Principals.** HOST, with all ordinary VMs, and each private VM. A principal is named by its root: 0 is HOST's.
 *
 * **The layer.** Who owns each page of RAM, and for a VM's page at which guest frame; what the tables of HOST and of each private VM map,
 * and to which page; the contents of pages. Tables, locks and TLBs are below (`machine.ts`); the second part of this file ties the two.
 *
 * **Views.** What a principal sees: which pages are its own, what they hold, and what its tables map where. Registers are not part of
 * it: what an exit reveals of them and an entry changes is stated by the contracts in `vcpu.ts` and `vgic.ts`.
 *
 * **Steps.** The ways in which the layer changes, each with what it demands: a principal writes through its mapping (which page that is,
 * the tables say); the core writes to HOST's pages; a page is mapped, unmapped, given to a VM, scrubbed, returned to HOST. Reads change
 * nothing: that what a principal may read is its view, and no more, is the lemma "what is reached is the principal's own". What a step
 * takes from outside (a value that is written, the page and frame that HOST proposes) is the step's answer, the same in both runs.
 *
 * **The theorem**, for every principal P and every step, from an arbitrary state in which the invariants hold:
 * - *integrity*: a step that does not concern P leaves P's view as it was. What concerns P is its own steps and those that give it
 *   something or take it away; `concerns` says which, step by step.
 * - *confidentiality*: if two states look the same to P and to who takes the step, they look the same to P afterwards.
 * - *masking*, for P other than HOST: if two states look the same to P, and the same step can be taken in both, they look the same to P
 *   afterwards, whatever else differs. The content of a page that HOST gives is told on purpose: it is part of what the step results in,
 *   which is the same in both.
 *
 * `proof/meta/Noninterference.v` shows that these lemmas about single steps give the same of whole executions.
 */
import {
  add,
  and,
  bool,
  bv,
  concat,
  eq,
  extract,
  FALSE,
  functionNamed,
  type Goal,
  implies,
  instructions,
  ite,
  Memory,
  type Module,
  ne,
  not,
  or,
  type Problem,
  type State,
  type Term,
  TRUE,
  ugt,
  variable,
  zext,
} from "../microv/index.ts";
import { handleNames, leafLives, leafOwned } from "./invariants.ts";
import { lemma } from "./lemma.ts";
import {
  CASES,
  type Case,
  EMPTIED,
  key,
  pa,
  type Run,
  run,
  stateBefore,
  stateBeforeZero,
  table,
  walkOf,
} from "./primitives.ts";
import {
  address,
  agrees,
  covers,
  ghost,
  hasTableBit,
  holds as holdsAt,
  inRam,
  inTree,
  isCores,
  isHosts,
  isOrdinary,
  isValidLeaf,
  mappedKey,
  OWNER_HOST,
  ownerOf,
  pageAt,
  page as pageOf,
  payloadOf,
  placeAt,
  ramIndex,
  read,
  rootOf,
  rootPage,
  Stale,
  someOffset,
  tlbPage,
  tlbRoot,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

// ------------------------------------------------------------------------------------------------------------------- the layer

/** A state of the layer. Keys of `mapped` and `target` are a root and an input page, those of `contents` a page and a word of it. */
interface Layer {
  /** Owner value of a page: 0 for HOST, 1 for the core, a VM's handle above 255. */
  readonly owner: Memory;
  /** Guest frame of a VM's page. */
  readonly frame: Memory;
  readonly mapped: Memory;
  readonly target: Memory;
  readonly contents: Memory;
  /** Pages that were scrubbed since their VM could last write to them. */
  readonly scrubbed: Memory;
}

/** What no step changes: which pages are RAM, and the handles of private VMs that exist. VMs come and go with nothing mapped. */
const isRam = Memory.arbitrary("is RAM", 36, 1);
const handle = Memory.arbitrary("handle of", 8, 24);

const HOST = bv(0, 8);
const [YES, NO] = [bv(1, 1), bv(0, 1)];
const holds = (memory: Memory, key: Term) => eq(memory.read(key), YES);

function arbitrary(run: string): Layer {
  const memory = (name: string, key: number, value: number) => Memory.arbitrary(`${name}${run}`, key, value);
  return {
    owner: memory("owner of", 36, 24),
    frame: memory("frame of", 36, 36),
    mapped: memory("mapped at", 44, 1),
    target: memory("target of", 44, 36),
    contents: memory("contents of", 45, 64),
    scrubbed: memory("scrubbed", 36, 1),
  };
}

/** Owner value of a principal's pages. */
const ownerValue = (P: Term): Term => ite(eq(P, HOST), bv(0, 24), handle.read(P));

/** A VM's handle ends in its root and is no other principal's. */
const names = (P: Term): Term =>
  implies(ne(P, HOST), and(eq(extract(7, 0, handle.read(P)), P), ugt(handle.read(P), bv(255, 24))));

/** Invariants 1 to 3 of the design: what a principal maps is its own; HOST maps pages to themselves, a VM's page stands at one frame. */
function mapsItsOwn(state: Layer, P: Term, x: Term): Term {
  const key = concat(P, x);
  const page = state.target.read(key);
  const own = eq(state.owner.read(page), ownerValue(P));
  return implies(
    holds(state.mapped, key),
    ite(
      eq(P, HOST),
      and(eq(page, x), implies(holds(isRam, x), own)),
      and(own, eq(state.frame.read(page), x)),
    ),
  );
}

/** Invariant 7: a VM's page that was scrubbed is zero, and its VM does not map it. */
function staysZero(state: Layer, page: Term, word: Term): Term {
  const owner = state.owner.read(page);
  const root = extract(7, 0, owner);
  const key = concat(root, state.frame.read(page));
  const maps = and(eq(handle.read(root), owner), holds(state.mapped, key), eq(state.target.read(key), page));
  return implies(
    and(holds(state.scrubbed, page), ugt(owner, bv(255, 24))),
    and(eq(state.contents.read(concat(page, word)), bv(0, 64)), not(maps)),
  );
}

// ------------------------------------------------------------------------------------------------------------------- the views

/** What a principal sees at a key. */
interface View {
  readonly name: string;
  readonly width: number;
  at(state: Layer, P: Term, key: Term): Term;
}

const isOwn = (state: Layer, P: Term, page: Term) => eq(state.owner.read(page), ownerValue(P));

const VIEWS: readonly View[] = [
  {
    name: "what its pages hold",
    width: 45,
    at: (state, P, key) => ite(isOwn(state, P, extract(44, 9, key)), state.contents.read(key), bv(0, 64)),
  },
  {
    name: "which pages are its own, and where they stand",
    width: 36,
    at: (state, P, page) =>
      ite(isOwn(state, P, page), concat(YES, ite(eq(P, HOST), bv(0, 36), state.frame.read(page))), bv(0, 37)),
  },
  {
    name: "what its tables map",
    width: 36,
    at: (state, P, x) =>
      ite(holds(state.mapped, concat(P, x)), concat(YES, state.target.read(concat(P, x))), bv(0, 37)),
  },
];

// ------------------------------------------------------------------------------------------------------------------- the steps

/** What a step is about, and the answers that it takes. */
const actor = variable("actor", 8);
const x = variable("input page", 36);
const page = variable("page", 36);
const word = variable("word", 9);
const answer = variable("answer", 64);

interface Step {
  readonly name: string;
  /** On whose behalf. */
  readonly by: Term;
  demand(state: Layer): Term;
  run(state: Layer): Layer;
  /** Whether it is P's own, or gives P something or takes it away. */
  concerns(P: Term, state: Layer): Term;
  /** What the step tells on purpose. */
  told?(state: Layer, word: Term): Term;
}

const here = concat(actor, x);
/** The VM that owns `page`, if it exists, maps it. */
function stillMapped(state: Layer): Term {
  const owner = state.owner.read(page);
  const root = extract(7, 0, owner);
  return and(eq(handle.read(root), owner), holds(state.mapped, concat(root, state.frame.read(page))));
}

const STEPS: readonly Step[] = [
  {
    name: "a principal writes through its mapping",
    by: actor,
    demand: (state) => and(holds(state.mapped, here), holds(isRam, state.target.read(here))),
    run: (state) => {
      const at = state.target.read(here);
      return {
        ...state,
        contents: state.contents.store(concat(at, word), answer),
        scrubbed: state.scrubbed.store(at, NO),
      };
    },
    concerns: (P) => eq(P, actor),
  },
  {
    // The core where the host asks it to, an ordinary VM through what is lent to it, and devices of the host.
    name: "a page of the host is written",
    by: HOST,
    demand: (state) => and(holds(isRam, page), isOwn(state, HOST, page)),
    run: (state) => ({ ...state, contents: state.contents.store(concat(page, word), answer) }),
    concerns: (P) => eq(P, HOST),
  },
  {
    name: "a page is mapped",
    by: HOST,
    demand: (state) =>
      and(
        not(holds(state.mapped, here)),
        ite(
          eq(actor, HOST),
          and(eq(page, x), implies(holds(isRam, x), isOwn(state, HOST, page))),
          and(isOwn(state, actor, page), eq(state.frame.read(page), x)),
        ),
      ),
    run: (state) => ({
      ...state,
      mapped: state.mapped.store(here, YES),
      target: state.target.store(here, page),
      scrubbed: state.scrubbed.store(page, NO),
    }),
    concerns: (P) => eq(P, actor),
  },
  {
    name: "a page is unmapped",
    by: HOST,
    demand: (state) => holds(state.mapped, here),
    run: (state) => ({ ...state, mapped: state.mapped.store(here, NO) }),
    concerns: (P) => eq(P, actor),
  },
  {
    name: "a page is given to a VM",
    by: HOST,
    demand: (state) =>
      and(
        ne(actor, HOST),
        holds(isRam, page),
        isOwn(state, HOST, page),
        not(holds(state.mapped, concat(HOST, page))),
      ),
    run: (state) => ({
      ...state,
      owner: state.owner.store(page, handle.read(actor)),
      frame: state.frame.store(page, x),
      scrubbed: state.scrubbed.store(page, NO),
    }),
    concerns: (P) => or(eq(P, HOST), eq(P, actor)),
    told: (state, w) => state.contents.read(concat(page, w)),
  },
  {
    name: "a page is scrubbed",
    by: HOST,
    demand: (state) => and(ugt(state.owner.read(page), bv(255, 24)), not(stillMapped(state))),
    run: (state) => ({
      ...state,
      contents: state.contents.rewrite((key, old) => ite(eq(extract(44, 9, key), page), bv(0, 64), old)),
      scrubbed: state.scrubbed.store(page, YES),
    }),
    concerns: (P, state) => isOwn(state, P, page),
  },
  {
    name: "a page is returned to the host",
    by: HOST,
    demand: (state) =>
      and(ugt(state.owner.read(page), bv(255, 24)), holds(state.scrubbed, page), not(stillMapped(state))),
    run: (state) => ({ ...state, owner: state.owner.store(page, bv(0, 24)) }),
    concerns: (P, state) => or(eq(P, HOST), isOwn(state, P, page)),
  },
];

// ----------------------------------------------------------------------------------------------------------------- the theorem

const P = variable("P", 8);

/** The invariants at what a step is about, and at a page or input page and a word. */
function given(state: Layer, at: Term, w: Term): Term[] {
  const pages = [page, state.target.read(here), at];
  const roots = [P, actor, HOST];
  return [
    ...roots.flatMap((root) => [
      names(root),
      ...[x, page, at].map((input) => mapsItsOwn(state, root, input)),
    ]),
    ...pages.map((one) => staysZero(state, one, w)),
  ];
}

/** The invariants of the layer hold after the step. */
function kept(step: Step): Omit<Problem, "name"> {
  const before = arbitrary("");
  const after = step.run(before);
  const at = variable("any page", 36);
  const w = variable("any word", 9);
  return {
    hypotheses: [step.demand(before), ...given(before, at, w)],
    goals: [
      { name: "what is mapped is the principal's own", path: TRUE, goal: mapsItsOwn(after, P, at) },
      {
        name: "what was scrubbed is zero",
        path: and(names(extract(7, 0, before.owner.read(at)))),
        goal: staysZero(after, at, w),
      },
    ],
  };
}

/** An arbitrary place of a view: a page, and a word of it where the view has words. */
const anyPlace = variable("any place", 36);
const anyWord = variable("any word", 9);
const placeOf = ({ width }: View, at: Term, w: Term) => (width === 45 ? concat(at, w) : at);

function integrity(step: Step): Omit<Problem, "name"> {
  const before = arbitrary("");
  const after = step.run(before);
  const goals = VIEWS.map((view): Goal => {
    const key = placeOf(view, anyPlace, anyWord);
    return {
      name: view.name,
      path: and(...given(before, anyPlace, anyWord)),
      goal: implies(not(step.concerns(P, before)), eq(view.at(before, P, key), view.at(after, P, key))),
    };
  });
  goals.push({
    name: "what concerns HOST is done by HOST",
    path: TRUE,
    goal: implies(step.concerns(HOST, before), eq(step.by, HOST)),
  });
  return { hypotheses: [step.demand(before)], goals };
}

/** Two runs of a step from states that look the same to `alike`: they look the same to P afterwards. */
function twoRuns(step: Step, alike: readonly Term[], where: Term, told: boolean): Omit<Problem, "name"> {
  const [s, t] = [arbitrary(" (1)"), arbitrary(" (2)")];
  const [s2, t2] = [step.run(s), step.run(t)];
  const goals = VIEWS.map((view): Goal => {
    // Two states look the same to a principal at every place; here are those that matter.
    const places = [page, x, anyPlace, s.target.read(here)];
    const same = alike.flatMap((Q) =>
      VIEWS.flatMap((one) =>
        places.map((p) => {
          const key = placeOf(one, p, anyWord);
          return eq(one.at(s, Q, key), one.at(t, Q, key));
        }),
      ),
    );
    const key = placeOf(view, anyPlace, anyWord);
    const answers = told && step.told ? [eq(step.told(s, anyWord), step.told(t, anyWord))] : [];
    return {
      name: view.name,
      path: and(...[s, t].flatMap((state) => given(state, anyPlace, anyWord)), ...same, ...answers),
      goal: eq(view.at(s2, P, key), view.at(t2, P, key)),
    };
  });
  return { hypotheses: [where, step.demand(s), step.demand(t)], goals };
}

function layerLemmas(): Problem[] {
  return STEPS.flatMap((step) => [
    lemma(`kept: ${step.name}`, () => kept(step)),
    lemma(`integrity: ${step.name}`, () => integrity(step)),
    lemma(`confidentiality: ${step.name}`, () => twoRuns(step, [P, step.by], TRUE, false)),
    lemma(`masking: ${step.name}`, () => twoRuns(step, [P], ne(P, HOST), true)),
  ]);
}

// ------------------------------------------------------------------------------------------------------------- the layer below

/*
 * The machine of `machine.ts` does the same. `owner` and `frame` are the owner table's entries of RAM; `mapped` is the ghost of that name,
 * which is what the hardware's walk finds (`primitives.ts`); `target` is where that walk leads; `contents` are the pages' own; `scrubbed`
 * pages are `zeroed`. So equal views above are equal views below: both are the same words. What is left to show is that a walk leads
 * only where the layer says, and that each primitive, as it is demanded to be used, is steps of the layer.
 */

/** Where the walk for input page `input` leads that passes `keys`, the entries from level `start` on, if `input` is mapped. */
function walkTarget(state: State, keys: readonly Term[], start: number, input: Term): Term {
  const at = (level: number): Term => {
    const entry = read(state, "pt", keys[level - start] as Term);
    if (level === 3) return pageOf(entry);
    const bits = 27 - 9 * level;
    const leaf = concat(extract(47, 12 + bits, entry), extract(bits - 1, 0, input));
    return ite(hasTableBit(entry), at(level + 1), level === 0 ? bv(0, 36) : leaf);
  };
  return at(start);
}

const root = variable("walked root", 8);
const input = variable("walked page", 36);

/** The offset of an input page into a leaf of a level. */
function offsetIn(level: Term, at: Term): Term {
  const low = (bits: number) => zext(extract(bits - 1, 0, at), 36);
  return ite(eq(level, bv(1, 2)), low(18), ite(eq(level, bv(2, 2)), low(9), bv(0, 36)));
}

/** A walk of the tree of HOST or of a private VM in an arbitrary state. */
function walkIn(core: Core, state: State, start: number) {
  const { keys, facts } = walkOf(core, state, root, input, start);
  const isMapped = and(
    not(isOrdinary(state, root)),
    holdsAt(state, "mapped", mappedKey(root, input)),
    start === 0 ? TRUE : eq(extract(35, 28, input), bv(0, 8)),
  );
  return { keys, facts, isMapped, target: walkTarget(state, keys, start, input) };
}

/** Invariants 2 and 3: a walk leads to HOST's own pages or no RAM, and a private VM's to its own page that stands at this frame. */
function reachLemma(core: Core, start: number): Omit<Problem, "name"> {
  const { m, theory } = core;
  const state = theory.start();
  write(state, "level", rootPage(m, root), bv(start, 2));
  const { keys, facts, isMapped, target } = walkIn(core, state, start);
  const owned = keys.flatMap((k) => {
    const offset = offsetIn(placeAt(state, k).level, input);
    return [leafOwned(state, m, k, offset), leafLives(state, m, k, offset)];
  });
  const index = ramIndex(m, target);
  const entry = read(state, "owner", index);
  const own = and(
    inRam(m, target),
    eq(ownerOf(entry), read(state, "handle", root)),
    eq(payloadOf(entry), zext(input, 40)),
    holdsAt(state, "alive", root),
  );
  const invariants = core.theory.invariants.filter(({ memory }) => memory === "owner");
  const of = invariants.map((one) => one.at(state, index));
  return {
    hypotheses: [...theory.hypotheses, ...facts, ...owned, ...of, handleNames(state, root)],
    goals: [
      {
        name: "HOST reaches a page by its own address, and RAM only where it is HOST's",
        path: and(isMapped, eq(root, HOST)),
        goal: and(eq(target, input), implies(inRam(m, target), isHosts(state, m, target))),
      },
      {
        name: "a private VM reaches its own page at this frame",
        path: and(isMapped, ne(root, HOST)),
        goal: own,
      },
      {
        name: "nobody reaches a page of the core",
        path: and(isMapped, inRam(m, target)),
        goal: not(isCores(m, target)),
      },
    ],
  };
}

/** A leaf of an ordinary VM maps pages of HOST, which are not the core's: so ordinary VMs are part of HOST. */
function lentLemma(core: Core): Omit<Problem, "name"> {
  const { m, theory } = core;
  const state = theory.start();
  const leaf = placeAt(state, variable("any pt", 45));
  const offset = someOffset(leaf.level);
  const some = add(pageOf(leaf.entry), offset);
  const owners = theory.invariants.filter(({ memory }) => memory === "owner");
  return {
    hypotheses: [
      ...theory.hypotheses,
      leafLives(state, m, leaf.key, offset),
      ...owners.map((one) => one.at(state, ramIndex(m, some))),
      and(inTree(leaf.use), isOrdinary(state, rootOf(leaf.use)), isValidLeaf(leaf.entry, leaf.level)),
    ],
    goals: [
      { name: "its page is HOST's", path: TRUE, goal: isHosts(state, m, some) },
      {
        name: "its page is referenced, so it is not given away",
        path: TRUE,
        goal: ne(read(state, "refs", ramIndex(m, some)), bv(0, 40)),
      },
      { name: "its page is not the core's", path: TRUE, goal: not(isCores(m, some)) },
    ],
  };
}

/** Invariant 3: no page is reached at two frames, or by two principals. */
function apartLemma(): Omit<Problem, "name"> {
  const state = arbitrary("");
  const [Q, at] = [variable("Q", 8), variable("other input page", 36)];
  const [one, other] = [concat(P, x), concat(Q, at)];
  return {
    hypotheses: [
      mapsItsOwn(state, P, x),
      mapsItsOwn(state, Q, at),
      names(P),
      names(Q),
      holds(state.mapped, one),
      holds(state.mapped, other),
      holds(isRam, state.target.read(one)),
    ],
    goals: [
      {
        name: "one page, one principal and one frame",
        path: eq(state.target.read(one), state.target.read(other)),
        goal: and(eq(P, Q), eq(x, at)),
      },
    ],
  };
}

/**
 * A walk before and after `made` changed tables that translate the pages of which `isInside` says so: outside it leads where it led;
 * inside, what is mapped is unmapped or what is not is mapped, never one page replaced by another.
 */
function treeGoals(
  core: Core,
  before: State,
  start: number,
  made: Run,
  isInside: Term,
  same: Term,
): { facts: readonly Term[]; goals: Goal[] } {
  const { facts, isMapped, target } = walkIn(core, before, start);
  const { after } = made;
  const { keys } = walkOf(core, after, root, input, start);
  const mappedAfter = holdsAt(after, "mapped", mappedKey(root, input));
  return {
    facts,
    goals: [
      {
        name: "outside, what is mapped stays mapped to the same page",
        path: and(isMapped, not(isInside)),
        goal: and(mappedAfter, eq(walkTarget(after, keys, start, input), target)),
      },
      {
        name: "outside, nothing is mapped anew",
        path: and(not(isOrdinary(before, root)), not(isInside)),
        goal: implies(mappedAfter, holdsAt(before, "mapped", mappedKey(root, input))),
      },
      {
        name: "inside, no page is replaced by another at once",
        path: and(isMapped, isInside),
        goal: or(not(mappedAfter), same),
        reachable: false,
      },
    ],
  };
}

function writeLemma(core: Core, one: Case, start: number): Omit<Problem, "name"> {
  const { before, value, where } = stateBefore(core, one);
  write(before, "level", rootPage(core.m, root), bv(start, 2));
  const made = run(core, "pt_write", before, [pa, value]);
  const place = placeAt(before, key);
  const isInside = and(inTree(place.use), eq(rootOf(place.use), root), covers(place, input));
  const { facts, goals } = treeGoals(core, before, start, made, isInside, eq(value, place.entry));
  const hypotheses = [
    ...core.theory.hypotheses,
    where,
    ...made.demands,
    ...facts,
    agrees(before, key, input),
  ];
  return { hypotheses, goals };
}

function zeroLemma(core: Core, one: (typeof EMPTIED)[number], start: number): Omit<Problem, "name"> {
  const { before, where } = stateBeforeZero(core, one);
  write(before, "level", rootPage(core.m, root), bv(start, 2));
  const made = run(core, "pt_zero", before, [address(table)]);
  const { use } = placeAt(before, concat(table, extract(8, 0, input)));
  const spans = eq(extract(36, 9, read(before, "base", table)), zext(extract(35, 9, input), 28));
  const isInside = and(inTree(use), eq(rootOf(use), root), spans);
  const { facts, goals } = treeGoals(core, before, start, made, isInside, FALSE);
  return { hypotheses: [...core.theory.hypotheses, where, ...made.demands, ...facts], goals };
}

/** Primitives that change who owns a page or what it holds are steps of the layer: what they demand is what the step demands. */
function ownerLemma(core: Core): Omit<Problem, "name"> {
  const { m, theory } = core;
  const before = theory.start();
  const args = [variable("index", 64), variable("entry", 64)];
  const owner = run(core, "s2page_write", before, args);
  const index = extract(35, 0, args[0] as Term);
  const at = pageAt(m, index);
  const [from, to] = [before, owner.after].map((state) => ownerOf(read(state, "owner", index))) as [
    Term,
    Term,
  ];
  const changes = and(...owner.demands, ne(from, to));
  const isMapped = (state: State, entry: Term) => {
    const root = extract(7, 0, ownerOf(entry));
    const exists = and(holdsAt(state, "alive", root), eq(read(state, "handle", root), ownerOf(entry)));
    return and(exists, holdsAt(state, "mapped", mappedKey(root, extract(35, 0, payloadOf(entry)))));
  };
  const isVms = (value: Term) => ugt(value, bv(255, 24));
  const zero = run(core, "page_zero", before, [variable("zero address", 64)]);
  const zeroed = read(before, "owner", ramIndex(m, pageOf(variable("zero address", 64))));
  const hosts = theory.invariants.filter(({ memory }) => memory === "owner");
  const heldInRam = theory.invariants.filter(({ memory }) => memory === "accessible");
  const write64 = variable("host address", 64);
  const bytes = run(core, "host_write64", before, [write64, variable("host value", 64)]);
  const newRoot = extract(7, 0, to);
  return {
    hypotheses: [
      ...theory.hypotheses,
      ...[pageOf(write64), pageOf(add(write64, bv(7, 64)))].flatMap((one) => [
        ...hosts.map((invariant) => invariant.at(before, ramIndex(m, one))),
        ...heldInRam.map((invariant) => invariant.at(before, one)),
      ]),
    ],
    goals: [
      {
        name: "a page is given by HOST, which does not map it, to a private VM that exists",
        path: and(changes, eq(from, OWNER_HOST)),
        goal: and(
          not(holdsAt(before, "mapped", mappedKey(HOST, at))),
          eq(to, read(before, "handle", newRoot)),
          holdsAt(before, "isPrivate", newRoot),
          isVms(to),
        ),
      },
      {
        name: "a page is returned by a VM that does not map it, scrubbed (invariant 7)",
        path: and(changes, ne(from, OWNER_HOST)),
        goal: and(
          eq(to, OWNER_HOST),
          isVms(from),
          not(isMapped(before, read(before, "owner", index))),
          holdsAt(before, "zeroed", at),
        ),
      },
      {
        name: "a page that changes owner is clean in caches (invariant 7)",
        path: changes,
        goal: holdsAt(before, "cleaned", at),
      },
      {
        name: "a VM's page stands at one frame for as long as it is the VM's",
        path: and(...owner.demands, eq(from, to), isVms(from)),
        goal: eq(read(owner.after, "owner", index), read(before, "owner", index)),
      },
      {
        name: "a page is scrubbed when its VM does not map it",
        path: and(...zero.demands),
        goal: and(isVms(ownerOf(zeroed)), not(isMapped(before, zeroed))),
      },
      {
        name: "host memory is written only in pages of HOST",
        path: and(...bytes.demands),
        goal: and(isHosts(before, m, pageOf(write64)), isHosts(before, m, pageOf(add(write64, bv(7, 64))))),
      },
    ],
  };
}

/**
 * `zeroed` of the machine is `scrubbed` of the layer, which a page is no more once its VM maps it again. `pt_write` does not ask for that; it
 * need not, because the core returns a page right after it scrubbed it: no other function scrubs, and that one maps nothing in between.
 */
function scrubLemma(module: Module): Omit<Problem, "name"> {
  const calls = (name: string) =>
    [...instructions(functionNamed(module, name).body)].map(({ op, index }) => {
      const callee = op === "call" ? module.functions[index] : undefined;
      return callee ? (callee.imported?.field ?? callee.name) : op;
    });
  const scrubbing = module.functions
    .filter(({ imported, name }) => !imported && calls(name).includes("page_zero"))
    .map(({ name }) => name);
  const code = calls("memory/giveToHost").filter((op) => !/^(local\.get|i64\.const)$/.test(op));
  const first = ["page_zero", "page_clean", "s2page/s2pageIndex", "s2page/setOwner"];
  const returns = calls("s2page/setOwner").filter((op) => /^[a-z0-9]+\/|_/.test(op) && !/^i64/.test(op));
  return {
    hypotheses: [],
    goals: [
      { name: "one function scrubs", path: TRUE, goal: bool(scrubbing.join() === "memory/giveToHost") },
      {
        name: "it returns the page next",
        path: TRUE,
        goal: bool(code.slice(0, first.length).join() === first.join() && returns.join() === "s2page_write"),
      },
    ],
  };
}

/**
 * Invariant 5: between the change of a table and the end of its invalidation a TLB may still lead a principal to a page that its tables no
 * longer map (`stale`, for one arbitrary entry). Until then the page stays the principal's.
 */
function staleLemma(core: Core): Omit<Problem, "name"> {
  const { m, theory } = core;
  const before = theory.start();
  const { after, demands } = run(core, "s2page_write", before, [
    variable("index", 64),
    variable("entry", 64),
  ]);
  const index = variable("any owner", 36);
  const at = pageAt(m, index);
  const [old, now] = [before, after].map((state) => read(state, "owner", index)) as [Term, Term];
  const exists = and(holdsAt(before, "alive", tlbRoot), eq(read(before, "handle", tlbRoot), ownerOf(old)));
  const stale = ne(ghost(before, "stale"), Stale.NO);
  const hosts = eq(ownerOf(old), OWNER_HOST);
  return {
    hypotheses: [...theory.hypotheses, ...demands, handleNames(before, tlbRoot), stale],
    goals: [
      {
        name: "a page that HOST may still reach stays HOST's",
        path: and(eq(tlbRoot, HOST), eq(at, tlbPage), hosts),
        goal: eq(ownerOf(now), OWNER_HOST),
      },
      {
        name: "a page that a private VM may still reach stays its own",
        path: and(
          ne(tlbRoot, HOST),
          exists,
          ugt(ownerOf(old), bv(255, 24)),
          eq(payloadOf(old), zext(tlbPage, 40)),
        ),
        goal: eq(now, old),
      },
      {
        name: "while an ordinary VM may still reach a page, HOST's pages stay HOST's",
        path: and(isOrdinary(before, tlbRoot), hosts),
        goal: eq(ownerOf(now), OWNER_HOST),
      },
    ],
  };
}

export const THEOREM_AXIOMS = [
  {
    name: "views are memory",
    reason:
      "registers that an exit reveals or an entry changes are stated by the contracts of vcpu.ts and vgic.ts; devices of the host reach what the host may (no SMMU is modelled)",
  },
  {
    name: "VMs come and go with nothing mapped",
    reason:
      "the layer's handles are constants; that a slot without a VM has no tables and no leaves is a lemma of primitives.ts, and that the slot's roots are empty when a VM ends is shown by the contracts of vm.ts",
  },
  {
    name: "what the host gives, it tells",
    reason:
      "a page is given to a VM with what the host left in it: its content is an answer of the data oracle",
  },
] as const;

const STARTS = [0, 1];

/** @returns the lemmas of this file */
export function theoremLemmas(core: Core, module: Module): Problem[] {
  return [
    ...layerLemmas(),
    ...STARTS.map((start) =>
      lemma(`invariants 1 to 3: what a walk from level ${start} reaches`, () => reachLemma(core, start)),
    ),
    lemma("invariant 3: an ordinary VM maps what HOST lends", () => lentLemma(core)),
    lemma("invariant 3: no page is reached twice", apartLemma),
    ...CASES.flatMap((one) =>
      STARTS.map((start) =>
        lemma(`pt_write of ${one.name} is a step of the layer (level ${start})`, () =>
          writeLemma(core, one, start),
        ),
      ),
    ),
    ...EMPTIED.flatMap((one) =>
      STARTS.map((start) =>
        lemma(`pt_zero of ${one.name} is a step of the layer (level ${start})`, () =>
          zeroLemma(core, one, start),
        ),
      ),
    ),
    lemma("invariant 5: what a TLB may still hold stays its principal's", () => staleLemma(core)),
    lemma("a page is returned right after it is scrubbed", () => scrubLemma(module)),
    lemma("owners and contents change as the layer says", () => ownerLemma(core)),
  ];
}
