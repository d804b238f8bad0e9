/**
 * Every primitive, used as `machine.ts` demands, keeps every invariant of `invariants.ts`, whoever uses it: this is why all other
 * proofs may assume the invariants at any time.
 *
 * A lemma runs the model of one primitive from an arbitrary state. What the model demands is hypothesis here (it is a goal wherever the
 * core uses the primitive), the invariants hold before, and each must hold after, at an arbitrary entry. A demand that mentions
 * `anySlot` or `anyOffset` is proved for an arbitrary value, so here it is used at the values that matter.
 *
 * Two tables of one tree never stand at the same place (`linked`: `position` names the one that does), and a table is linked by the
 * entry that its ghosts name. So whatever translates a page stands above or below another that does, and one of them is a table.
 */
import {
  add,
  and,
  bv,
  type Call,
  concat,
  copyState,
  eq,
  extract,
  FALSE,
  type Goal,
  type Invariant,
  implies,
  ite,
  Memory,
  ne,
  not,
  or,
  type Problem,
  type State,
  sub,
  substitute,
  type Term,
  TRUE,
  ult,
  variable,
} from "../microv/index.ts";
import {
  countsFit,
  emptyTree,
  handleNames,
  heldIsPinned,
  leafLives,
  structureOf,
  walked,
} from "./invariants.ts";
import { lemma } from "./lemma.ts";
import {
  agrees,
  anyOffset,
  anyPage,
  anySlot,
  goesDown,
  HOST_ROOT,
  holds,
  inTree,
  isCountedLeaf,
  isDetached,
  isOrdinary,
  isRootPage,
  isTableEntry,
  isValidLeaf,
  type MemoryName,
  mappedKey,
  memory,
  page,
  pageAt,
  payloadOf,
  placeAt,
  ramIndex,
  read,
  rootOf,
  rootPage,
  someOffset,
  tree,
  Use,
  within,
  write,
} from "./state.ts";
import type { Core } from "./theory.ts";

/** A primitive at work: the states before and after, and what it demanded. */
export interface Run {
  readonly before: State;
  readonly after: State;
  readonly demands: readonly Term[];
  readonly result: Term | undefined;
}

/** Runs the model of `primitive` on a copy of `before`. @throws Error when there is no such primitive */
export function run({ theory }: Core, primitive: string, before: State, args: readonly Term[]): Run {
  const model = Object.entries(theory.models).find(([name]) => name.endsWith(`.${primitive}`))?.[1];
  if (!model) throw new Error(`there is no primitive ${primitive}`);
  const after = copyState(before);
  const demands: Term[] = [];
  let fresh = 0;
  const call = {
    state: after,
    args,
    oblige: (_: string, fact: Term) => void demands.push(implies(after.path, fact)),
    // What a model assumes are invariants of the state before, which the lemma has in its own right.
    assume: () => {},
    fresh: (name: string, width: number) => variable(`${primitive} ${name} ${fresh++}`, width),
    freshMemory: (name: string, key: number, value: number) =>
      Memory.arbitrary(`${primitive} ${name} ${fresh++}`, key, value),
  } as unknown as Call;
  const result = model(call) ?? undefined;
  return { before, after, demands, result };
}

/** The facts with `anySlot` and `anyOffset` replaced: what is proved for arbitrary ones holds for all. */
export function instance(facts: readonly Term[], slot: Term, offset: Term): Term[] {
  return substitute(facts, (_, original) =>
    original === anySlot ? slot : original === anyOffset ? offset : undefined,
  );
}

// ------------------------------------------------------------------------------------------------------------------ invariants

/** An invariant of an entry and an input page that it may translate. */
interface PairInvariant {
  readonly name: string;
  at(state: State, key: Term, x: Term): Term;
}

const PAIRS: readonly PairInvariant[] = [
  { name: "what is mapped is what the entries say", at: agrees },
  { name: "what is at level 3 is what the entries say", at: goesDown },
];

/** Consequences of others: of `PAIRS`, at a page that the entry translates; see `walkLemma` for the other. */
const DERIVED = ["what is mapped is what a walk finds", "the host's tables go down as far as noted"];

/** The invariants to be kept, but for `PAIRS`. */
function invariantsToKeep({ m, theory }: Core): Invariant[] {
  return [...theory.invariants, ...structureOf(m)].filter(({ name }) => !DERIVED.includes(name));
}

/** What is known of trees: how a table stands, and how an entry links the next. */
interface Structure {
  table(state: State, table: Term): Term[];
  entry(state: State, key: Term): Term[];
}

function structure(core: Core): Structure {
  const all = invariantsToKeep(core);
  const named = (memory: string, ...names: string[]) =>
    names.map((name) => {
      const found = all.find((one) => one.name === name && one.memory === memory);
      if (!found) throw new Error(`there is no invariant "${name}"`);
      return found;
    });
  const tables = named(
    "use",
    "a table is linked once, at its place",
    "a table translates an aligned range",
    "roots stay roots",
  );
  const entries = named("pt", "a table entry links a table of the next level", "a leaf is well formed");
  return {
    table: (state, at) => tables.map((one) => one.at(state, at)),
    entry: (state, at) => entries.map((one) => one.at(state, at)),
  };
}

/** What holds of a table, of the entry that links it, and so on, `height` tables up. */
function upwards(known: Structure, state: State, table: Term, height: number): Term[] {
  const parent = read(state, "parent", table);
  const above = () => [
    ...known.entry(state, parent),
    ...upwards(known, state, extract(44, 9, parent), height - 1),
  ];
  return [...known.table(state, table), ...(height === 0 ? [] : above())];
}

/** What holds of an entry, and of tables. */
export function tableFacts(core: Core, state: State, key: Term, tables: readonly Term[]): Term[] {
  const known = structure(core);
  return [...known.entry(state, key), ...tables.flatMap((table) => known.table(state, table))];
}

// -------------------------------------------------------------------------------------------------------------------- counting

/** Whether the entry at `key` is counted as a reference to page `x`. */
export function refersTo(state: State, key: Term, x: Term): Term {
  const { use, level, entry } = placeAt(state, key);
  return and(
    or(inTree(use), isDetached(use)),
    isOrdinary(state, rootOf(use)),
    isCountedLeaf(entry, level),
    within(level, page(entry), x),
  );
}

/**
 * `refs` of a page is the number of entries that refer to it: so it is at least one where one does, and at least two where two do. What
 * makes it that number is `countLemma`: it changes as the entries do.
 */
function counting({ m }: Core, state: State, x: Term, one: Term, other: Term): Term[] {
  const refs = read(state, "refs", ramIndex(m, x));
  return [
    countsFit(state, ramIndex(m, x)),
    ...[one, other].map((k) => implies(refersTo(state, k, x), ne(refs, bv(0, 40)))),
    implies(and(refersTo(state, one, x), refersTo(state, other, x), ne(one, other)), ult(bv(1, 40), refs)),
  ];
}

// -------------------------------------------------------------------------------------------------------------------- pt_write

export const table = variable("table", 36);
const slot = variable("slot", 9);
export const key = concat(table, slot);
export const pa = concat(bv(0, 16), key, bv(0, 3));
const otherKey = variable("any pt", 45);

/** Words that a way to write an entry is told in. */
export interface Words {
  readonly root: Term;
  /** The table that the entry links before, or after. */
  readonly child: Term;
  readonly old: Term;
  readonly value: Term;
}

/** What tells one way to write an entry: values of the state before, the value, and what else holds. */
export interface Form {
  readonly use: Term;
  readonly isPrivate?: Term;
  readonly old?: Term;
  readonly childUse?: Term;
  readonly value?: Term;
  readonly where?: (level: Term) => Term;
}

export interface Case {
  readonly name: string;
  form(words: Words): Form;
}

const NOTHING = bv(0, 64);
const [YES, NO] = [bv(1, 1), bv(0, 1)];
const linkTo = (child: Term, valid: Term) => concat(bv(0, 16), child, bv(0, 10), YES, valid);

/** Whose tree is written. */
const KINDS = {
  "the host's tree": ({ root }: Words) => ({ use: tree(HOST_ROOT), where: () => eq(root, HOST_ROOT) }),
  "a private VM's tree": ({ root }: Words) => ({
    use: tree(root),
    isPrivate: YES,
    where: () => ne(root, HOST_ROOT),
  }),
  "an ordinary VM's tree": ({ root }: Words) => ({
    use: tree(root),
    isPrivate: NO,
    where: () => ne(root, HOST_ROOT),
  }),
};
type Kind = keyof typeof KINDS;
const [HOST, PRIVATE, ORDINARY] = Object.keys(KINDS) as [Kind, Kind, Kind];

function casesOf(what: string, kinds: readonly Kind[], form: (words: Words) => Omit<Form, "use">): Case[] {
  return kinds.map((kind) => ({
    name: `${what} in ${kind}`,
    form: (words) => {
      const own = form(words);
      const whose: Form = KINDS[kind](words);
      const where = (level: Term) => and(whose.where?.(level) ?? TRUE, own.where?.(level) ?? TRUE);
      return { ...whose, ...own, where };
    },
  }));
}

export const CASES: readonly Case[] = [
  { name: "a free page", form: () => ({ use: Use.FREE }) },
  { name: "a page that is not linked yet", form: () => ({ use: Use.TAKEN }) },
  {
    name: "nothing in an unlinked table",
    form: ({ root }) => ({ use: Use.detached(root), value: NOTHING }),
  },
  { name: "what is there", form: ({ root, old }) => ({ use: tree(root), value: old }) },
  ...casesOf("a link to a new table", [HOST, PRIVATE, ORDINARY], ({ child }) => ({
    old: NOTHING,
    childUse: Use.TAKEN,
    value: linkTo(child, YES),
    where: (level) => ne(level, bv(3, 2)),
  })),
  ...casesOf("a link to a retained table", [ORDINARY], ({ child }) => ({
    old: linkTo(child, NO),
    value: linkTo(child, YES),
    where: (level) => ne(level, bv(3, 2)),
  })),
  ...casesOf("a leaf", [HOST, PRIVATE], ({ value }) => ({
    old: NOTHING,
    value: concat(extract(63, 1, value), YES),
    where: (level) => isValidLeaf(value, level),
  })),
  ...casesOf("a leaf", [ORDINARY], ({ value, old }) => ({
    old: concat(extract(63, 1, old), NO),
    value: concat(extract(63, 1, value), YES),
    where: (level) => and(isValidLeaf(value, level), or(eq(old, NOTHING), not(isTableEntry(old, level)))),
  })),
  ...casesOf("an entry that is retained", [ORDINARY], ({ old }) => ({
    old: concat(extract(63, 1, old), YES),
    value: concat(extract(63, 1, old), NO),
    where: (level) => ne(level, bv(3, 2)),
  })),
  ...casesOf("nothing where a table was", [PRIVATE], ({ child }) => ({
    old: linkTo(child, YES),
    value: NOTHING,
    where: (level) => ne(level, bv(3, 2)),
  })),
  ...casesOf("nothing where a table was", [ORDINARY], ({ child, old }) => ({
    old: linkTo(child, extract(0, 0, old)),
    value: NOTHING,
    where: (level) => ne(level, bv(3, 2)),
  })),
  ...casesOf("nothing where a leaf was", [HOST, PRIVATE], ({ old }) => ({
    old: concat(extract(63, 1, old), YES),
    value: NOTHING,
    where: (level) => not(isTableEntry(old, level)),
  })),
  ...casesOf("nothing where a leaf was", [ORDINARY], ({ old }) => ({
    value: NOTHING,
    where: (level) => and(ne(old, NOTHING), not(isTableEntry(old, level))),
  })),
];

export const words: Words = {
  root: variable("root", 8),
  child: variable("child", 36),
  old: variable("old", 64),
  value: variable("value", 64),
};

/** An arbitrary state in which an entry is about to be written in this way. */
export function stateBefore(
  { theory }: Core,
  { form }: Case,
): { before: State; value: Term; where: Term; old: Term } {
  const { use, isPrivate, old = words.old, childUse, value = words.value, where } = form(words);
  const before = theory.start();
  if (childUse) write(before, "use", words.child, childUse);
  write(before, "use", table, use);
  write(before, "pt", key, old);
  if (isPrivate) write(before, "isPrivate", words.root, isPrivate);
  const apart = childUse ? ne(words.child, table) : TRUE;
  return { before, value, where: and(apart, where?.(read(before, "level", table)) ?? TRUE), old };
}

/** Facts that make the goal about one entry provable: about the entry that is written, and about what is linked there. */
function ptWriteLemma(core: Core, one: Case): Omit<Problem, "name"> {
  const { m, theory } = core;
  const { before, value, where } = stateBefore(core, one);
  const { after, demands } = run(core, "pt_write", before, [pa, value]);
  const known = structure(core);
  const { child } = words;
  const goals: Goal[] = [];
  const goal = (name: string, facts: readonly Term[], fact: Term) =>
    goals.push({ name, path: and(...facts), goal: fact });
  const place = [...known.entry(before, key), ...known.table(before, table), ...known.table(before, child)];
  const otherTable = extract(44, 9, otherKey);
  const trees = (t: Term) => [...place, ...upwards(known, before, table, 3), ...upwards(known, before, t, 3)];
  for (const invariant of invariantsToKeep(core)) {
    const { memory: name } = invariant;
    const any = variable(`any ${name}`, memory(before, name as MemoryName).keyWidth);
    const facts = [invariant.at(before, any), ...place];
    if (name === "pt") {
      const last = bv(0x3ffff, 18);
      const pages = [before, after].flatMap((state) => {
        const { entry, level } = placeAt(state, any);
        return [page(entry), add(page(entry), someOffset(level))];
      });
      for (const offset of [anyOffset, bv(0, 18), last])
        facts.push(...instance(demands, anySlot, offset), ...instance(demands, extract(8, 0, any), offset));
      for (const x of pages) facts.push(...counting(core, before, x, key, any));
      facts.push(invariant.at(before, key), ...known.entry(before, any));
    } else if (name === "use") {
      facts.push(...[table, child].map((t) => invariant.at(before, t)));
      if (invariant.name === "a table is linked once, at its place") facts.push(...trees(any));
      if (invariant.name === "roots stay roots") facts.push(...upwards(known, before, table, 1));
      const up = read(before, "parent", any);
      facts.push(...instance(demands, extract(8, 0, up), anyOffset));
    } else if (name === "owner") {
      const x = pageAt(m, any);
      const level = read(before, "level", table);
      facts.push(...instance(demands, below(level, x), extract(17, 0, x)));
      const mapped = leafLives(before, m, key, someOffset(level));
      facts.push(...instance([mapped], anySlot, extract(17, 0, x)));
    }
    goal(invariant.name, facts, invariant.at(after, any));
  }
  const up = read(before, "parent", otherTable);
  const up2 = read(before, "parent", extract(44, 9, up));
  const slots = [otherKey, up, up2].map((k) => extract(8, 0, k));
  for (const pair of PAIRS) {
    const facts = [
      ...trees(otherTable),
      ...known.entry(before, otherKey),
      ...[key, otherKey].map((k) => pair.at(before, k, anyPage)),
      ...slots.flatMap((s) => instance(demands, s, anyOffset)),
    ];
    goal(pair.name, facts, pair.at(after, otherKey, anyPage));
  }
  return {
    hypotheses: [...theory.hypotheses, where, ...demands],
    goals,
  };
}

/** Index of input page `x` in the table below an entry of `level`. */
function below(level: Term, x: Term): Term {
  return ite(
    eq(level, bv(0, 2)),
    extract(26, 18, x),
    ite(eq(level, bv(1, 2)), extract(17, 9, x), extract(8, 0, x)),
  );
}

/** The ways in which an entry is written are all that the demands allow. */
function casesLemma(core: Core): Omit<Problem, "name"> {
  const { theory } = core;
  const before = theory.start();
  const value = words.value;
  const { demands } = run(core, "pt_write", before, [pa, value]);
  const { use, level, entry } = placeAt(before, key);
  const root = rootOf(use);
  const cases = CASES.flatMap(({ form }) =>
    // The table is the one that the entry links, before or after.
    [page(entry), page(value)].map((child) => {
      const is = form({ root, child, old: entry, value });
      return and(
        eq(use, is.use),
        eq(entry, is.old ?? entry),
        eq(value, is.value ?? value),
        is.isPrivate ? eq(read(before, "isPrivate", root), is.isPrivate) : TRUE,
        is.childUse ? eq(read(before, "use", child), is.childUse) : TRUE,
        is.where?.(level) ?? TRUE,
      );
    }),
  );
  const known = structure(core);
  return {
    hypotheses: [
      ...theory.hypotheses,
      ...demands,
      ...known.entry(before, key),
      ...known.table(before, table),
    ],
    goals: [{ name: "one of them is taken", path: TRUE, goal: or(...cases) }],
  };
}

/** `refs` of any page changes as much as the entry's reference to it does, and no other entry's reference changes. */
function countLemma(core: Core, one: Case): Omit<Problem, "name"> {
  const { m, theory } = core;
  const { before, value, where } = stateBefore(core, one);
  const { after, demands } = run(core, "pt_write", before, [pa, value]);
  const known = structure(core);
  const one40 = (fact: Term) => ite(fact, bv(1, 40), bv(0, 40));
  const x = pageAt(m, variable("any refs", 36));
  const refs = (state: State) => read(state, "refs", ramIndex(m, x));
  const other = [otherKey, key].flatMap((k) => known.entry(before, k));
  const { table: _, slot: otherSlot } = placeAt(before, otherKey);
  return {
    hypotheses: [...theory.hypotheses, where, ...demands, ...other, ...known.table(before, table)],
    goals: [
      {
        name: "the count changes as the entry's reference does",
        path: TRUE,
        goal: eq(
          sub(refs(after), refs(before)),
          sub(one40(refersTo(after, key, x)), one40(refersTo(before, key, x))),
        ),
      },
      {
        name: "no other entry's reference changes",
        path: and(ne(key, otherKey), ...instance(demands, otherSlot, anyOffset)),
        goal: eq(refersTo(after, otherKey, x), refersTo(before, otherKey, x)),
      },
    ],
  };
}

// --------------------------------------------------------------------------------------------------------------------- pt_zero

/** Tables that are emptied at once. */
export const EMPTIED: readonly { readonly name: string; readonly use: Term; readonly isPrivate?: Term }[] = [
  { name: "a free page", use: Use.FREE },
  { name: "a page that is not linked yet", use: Use.TAKEN },
  { name: "an unlinked table", use: Use.detached(words.root) },
  { name: "a table of the host", use: tree(HOST_ROOT) },
  { name: "a table of a private VM", use: tree(words.root), isPrivate: YES },
  { name: "a table of an ordinary VM", use: tree(words.root), isPrivate: NO },
];

/** An arbitrary state in which such a table is about to be emptied. */
export function stateBeforeZero(
  { theory }: Core,
  { use, isPrivate }: (typeof EMPTIED)[number],
): { before: State; where: Term } {
  const before = theory.start();
  write(before, "use", table, use);
  if (inTree(use) === TRUE) write(before, "level", table, bv(3, 2));
  if (isPrivate) write(before, "isPrivate", words.root, isPrivate);
  return { before, where: isPrivate ? ne(words.root, HOST_ROOT) : TRUE };
}

function ptZeroLemma(core: Core, one: (typeof EMPTIED)[number]): Omit<Problem, "name"> {
  const { theory } = core;
  const { before, where } = stateBeforeZero(core, one);
  const { after, demands } = run(core, "pt_zero", before, [concat(bv(0, 16), table, bv(0, 12))]);
  const known = structure(core);
  const otherTable = extract(44, 9, otherKey);
  const trees = (t: Term) => [...upwards(known, before, table, 3), ...upwards(known, before, t, 3)];
  const goals: Goal[] = invariantsToKeep(core).map((invariant) => {
    const any = anyOf(before, invariant);
    const at = invariant.memory === "pt" ? extract(8, 0, any) : extract(8, 0, read(before, "parent", table));
    const up = invariant.memory === "use" ? read(before, "parent", any) : undefined;
    const facts = [
      invariant.at(before, any),
      ...known.table(before, table),
      ...instance(demands, at, anyOffset),
      ...(up ? [...known.entry(before, up), ...instance(demands, extract(8, 0, up), anyOffset)] : []),
      ...(invariant.name === "a table is linked once, at its place" ? trees(any) : []),
    ];
    return { name: invariant.name, path: and(...facts), goal: invariant.at(after, any) };
  });
  for (const pair of PAIRS) {
    const facts = [
      ...trees(otherTable),
      ...known.entry(before, otherKey),
      pair.at(before, otherKey, anyPage),
    ];
    goals.push({ name: pair.name, path: and(...facts), goal: pair.at(after, otherKey, anyPage) });
  }
  return {
    hypotheses: [...theory.hypotheses, where, ...demands],
    goals,
  };
}

// ------------------------------------------------------------------------------------------------------------- all the others

const anyOf = (state: State, { memory: name }: Pick<Invariant, "memory">): Term =>
  variable(`any ${name}`, memory(state, name as MemoryName).keyWidth);

/** What the lemma about a primitive needs beside its demands and the invariant itself. */
type Need = (core: Core, before: State, invariant: Invariant, args: readonly Term[]) => Term[];

/** `s2page_write`: an ordinary VM's leaf is counted, a private VM's is mapped where its page says, what is held in place is pinned. */
const ownerNeeds: Need = (core, before, invariant, args) => {
  const { m } = core;
  const index = extract(35, 0, args[0] as Term);
  const any = anyOf(before, invariant);
  if (invariant.memory === "owner") return [heldIsPinned(before, m, index)];
  if (invariant.memory !== "pt") return [];
  const { level, use } = placeAt(before, any);
  const frame = extract(35, 0, payloadOf(read(before, "owner", index)));
  return [
    leafLives(before, m, any, someOffset(level)),
    handleNames(before, rootOf(use)),
    agrees(before, any, frame),
    agrees(before, any, pageAt(m, index)),
    ...structure(core).entry(before, any),
    ...structure(core).table(before, extract(44, 9, any)),
  ];
};

const NEEDS: Record<string, Need> = { s2page_write: ownerNeeds };

/**
 * Every other primitive. An invariant that says the very same after as before needs no goal; that is so of most, for they change one
 * memory or none.
 */
function otherLemma(core: Core): Omit<Problem, "name"> {
  const { theory } = core;
  const before = theory.start();
  const goals = core.primitives.flatMap(({ name, params }): Goal[] => {
    if (name === "pt_write" || name === "pt_zero") return [];
    const args = params.map((width, n) => variable(`${name}.${n}`, width));
    const { after, demands } = run(core, name, before, args);
    const kept = invariantsToKeep(core).map((invariant) => {
      const any = anyOf(before, invariant);
      const facts = [
        ...demands,
        invariant.at(before, any),
        ...(NEEDS[name]?.(core, before, invariant, args) ?? []),
      ];
      return { invariant, facts, goal: invariant.at(after, any), old: invariant.at(before, any) };
    });
    const pairs = PAIRS.map((pair) => ({
      invariant: pair,
      facts: [...demands, pair.at(before, otherKey, anyPage)],
      goal: pair.at(after, otherKey, anyPage),
      old: pair.at(before, otherKey, anyPage),
    }));
    return [...kept, ...pairs].flatMap(({ invariant, facts, goal, old }) =>
      goal === old || after.path === FALSE
        ? []
        : [{ name: `${name}: ${invariant.name}`, path: and(...facts), goal }],
    );
  });
  return { hypotheses: theory.hypotheses, goals };
}

// -------------------------------------------------------------------------------------------------------------- consequences

/** The entries that a walk for input page `x` of a tree that starts at `start` passes, and what the invariants say of them. */
export function walkOf(
  core: Core,
  state: State,
  root: Term,
  x: Term,
  start: number,
): { keys: readonly Term[]; facts: readonly Term[] } {
  const known = structure(core);
  const first = rootPage(core.m, root);
  const top = start === 0 ? [first, extract(35, 27, x)] : [extract(35, 1, first), extract(27, 18, x)];
  const keys = [concat(...top)];
  for (const index of [extract(26, 18, x), extract(17, 9, x), extract(8, 0, x)].slice(start))
    keys.push(concat(page(read(state, "pt", keys.at(-1) as Term)), index));
  const facts = [
    ...known.table(state, first),
    ...known.table(state, extract(44, 9, keys[0] as Term)),
    ...keys.flatMap((k) => [...known.entry(state, k), agrees(state, k, x)]),
  ];
  return { keys, facts };
}

/** What is mapped in trees that start at `start` is what the hardware's walk finds. */
function walkLemma(core: Core, start: number): Omit<Problem, "name"> {
  const { m, theory } = core;
  const state = theory.start();
  const { root } = words;
  write(state, "level", rootPage(m, root), bv(start, 2));
  const { facts } = walkOf(core, state, root, anyPage, start);
  return {
    hypotheses: [...theory.hypotheses, ...facts],
    goals: [{ name: "it does", path: TRUE, goal: walked(state, m, mappedKey(root, anyPage)) }],
  };
}

/** The roots of a slot without a VM are empty, so nothing is below them: when a VM ends, its tree is gone. */
function emptyLemma(core: Core): Omit<Problem, "name"> {
  const { m, theory } = core;
  const state = theory.start();
  const { use, entry } = placeAt(state, key);
  const root = rootOf(use);
  const above = [0, 1, 2, 3].reduce<Term[]>(
    (ks) => [...ks, read(state, "parent", extract(44, 9, ks.at(-1) as Term))],
    [key],
  );
  return {
    hypotheses: [
      ...theory.hypotheses,
      ...upwards(structure(core), state, table, 3),
      ...above.map((k) => emptyTree(state, m, k)),
    ],
    goals: [
      {
        name: "its tree is its empty roots",
        path: and(inTree(use), ne(root, HOST_ROOT), not(holds(state, "alive", root))),
        goal: and(isRootPage(m, root, table), eq(entry, NOTHING)),
      },
    ],
  };
}

/** What the lemmas of this file take from mathematics. */
export const PRIMITIVE_AXIOMS = [
  {
    name: "references are counted",
    reason:
      "refs(x) is the number of entries that refer to page x: 0 at boot, and changed by every primitive exactly as the entries are (lemmas `... counts`); a number of entries is at least 1 where one refers, at least 2 where two do, and at most the number of entries there are",
  },
  {
    name: "what is held in place is pinned when a page is donated",
    reason:
      "granted with LOCK_S2PAGE and demanded when it is given back (lock.ts), of every CPU; between the two it is a hypothesis of s2page_write's lemma, for pins change only in pin and unpin, which donate nothing",
  },
] as const;

/** @returns the lemmas of this file */
export function primitiveLemmas(core: Core): Problem[] {
  return [
    lemma("pt_write's ways are all", () => casesLemma(core)),
    ...CASES.flatMap((one) => [
      lemma(`pt_write of ${one.name} keeps the invariants`, () => ptWriteLemma(core, one)),
      lemma(`pt_write of ${one.name} counts`, () => countLemma(core, one)),
    ]),
    ...EMPTIED.map((one) =>
      lemma(`pt_zero of ${one.name} keeps the invariants`, () => ptZeroLemma(core, one)),
    ),
    lemma("the other primitives keep the invariants", () => otherLemma(core)),
    ...[0, 1].map((start) =>
      lemma(`the hardware's walk from level ${start} finds what is mapped`, () => walkLemma(core, start)),
    ),
    lemma("a slot without a VM has no tables and no leaves", () => emptyLemma(core)),
  ];
}
