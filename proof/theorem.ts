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
 *   afterwards, whatever else differs. The content of a page that HOST gives is told on purpose, so it is an answer.
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
  type Goal,
  implies,
  ite,
  Memory,
  ne,
  not,
  or,
  type Problem,
  type Term,
  TRUE,
  ugt,
  ult,
  variable,
  zext,
} from "../microv/index.ts";
import { lemma } from "./lemma.ts";
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

/** @returns the lemmas of this file */
export function theoremLemmas(_core: Core): Problem[] {
  return [...layerLemmas()];
}
