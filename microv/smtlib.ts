/** Queries as SMT-LIB 2, and models as solvers print them. */

import { Model } from "./evaluate.ts";
import { applicationsOf, postorder, type Term, variablesOf } from "./term.ts";

const OPERATORS: Record<string, string> = {
  not: "not",
  and: "and",
  ite: "ite",
  eq: "=",
  ult: "bvult",
  slt: "bvslt",
  concat: "concat",
  bnot: "bvnot",
  band: "bvand",
  bor: "bvor",
  bxor: "bvxor",
  add: "bvadd",
  mul: "bvmul",
  udiv: "bvudiv",
  urem: "bvurem",
  sdiv: "bvsdiv",
  srem: "bvsrem",
  shl: "bvshl",
  lshr: "bvlshr",
  ashr: "bvashr",
};

function sort(width: number): string {
  return width === 0 ? "Bool" : `(_ BitVec ${width})`;
}

/** Names are always quoted, so that any character but `|` and `\` may occur in them. */
function symbol(name: string): string {
  if (/[|\\]/.test(name)) throw new Error(`SMT-LIB has no name ${JSON.stringify(name)}`);
  return `|${name}|`;
}

function constant(value: bigint, width: number): string {
  if (width === 0) return value === 1n ? "true" : "false";
  return `#b${value.toString(2).padStart(width, "0")}`;
}

function body(term: Term, args: readonly string[]): string {
  switch (term.op) {
    case "const":
      return constant(term.value, term.width);
    case "var":
      return symbol(term.name);
    case "apply":
      return `(${symbol(term.name)} ${args.join(" ")})`;
    case "extract":
      return `((_ extract ${term.high} ${term.low}) ${args[0]})`;
    case "sext":
      return `((_ sign_extend ${term.width - (term.args[0] as Term).width}) ${args[0]})`;
    case "concat":
    case "add":
      return args.reduce((left, right) => `(${OPERATORS[term.op]} ${left} ${right})`);
    default:
      return `(${OPERATORS[term.op]} ${args.join(" ")})`;
  }
}

/** What a query asks the solver to give values of: variables, applications, and the arguments of applications. */
function watched(assertions: readonly Term[]): Term[] {
  const applications = applicationsOf(assertions);
  return [...new Set([...variablesOf(...assertions), ...applications.flatMap((a) => [a, ...a.args])])];
}

/**
 * A query whether all assertions hold together. With `values` the solver is asked for what {@link readModel} needs.
 * Every compound term gets a name, so that the text grows with the number of terms and values are asked of names only.
 */
export function toSmtLib(assertions: readonly Term[], options: { values: boolean }): string {
  const lines = ["(set-option :print-success false)"];
  if (options.values) lines.push("(set-option :produce-models true)");
  lines.push("(set-logic QF_UFBV)");
  for (const v of variablesOf(...assertions))
    lines.push(`(declare-fun ${symbol(v.name)} () ${sort(v.width)})`);
  const declared = new Set<string>();
  for (const f of applicationsOf(assertions)) {
    if (declared.has(f.name)) continue;
    declared.add(f.name);
    lines.push(
      `(declare-fun ${symbol(f.name)} (${f.args.map((a) => sort(a.width)).join(" ")}) ${sort(f.width)})`,
    );
  }
  const names = new Map<Term, string>();
  for (const term of postorder(assertions)) {
    const text = body(
      term,
      term.args.map((arg) => names.get(arg) as string),
    );
    const name = term.args.length === 0 ? text : `t${term.id}`;
    if (term.args.length > 0) lines.push(`(define-fun ${name} () ${sort(term.width)} ${text})`);
    names.set(term, name);
  }
  for (const assertion of assertions) lines.push(`(assert ${names.get(assertion)})`);
  lines.push("(check-sat)");
  if (options.values) {
    const list = watched(assertions).map((term) => names.get(term) as string);
    if (list.length > 0) lines.push(`(get-value (${list.join(" ")}))`);
  }
  return `${lines.join("\n")}\n`;
}

/** The model in a solver's answer to a query made with `values`, after its `sat`. */
export function readModel(assertions: readonly Term[], answer: string): Model {
  const values = [...answer.matchAll(/\s(true|false|#b[01]+|#x[0-9a-fA-F]+|\(_ bv\d+ \d+\))\s*\)/g)].map(
    ([, text = ""]) => {
      if (text === "true" || text === "false") return text === "true" ? 1n : 0n;
      const decimal = /bv(\d+)/.exec(text);
      return BigInt(decimal ? (decimal[1] as string) : `0${text.slice(1)}`);
    },
  );
  const model = new Model();
  const terms = watched(assertions);
  const answers = new Map(terms.map((term, i) => [term, values[i] ?? 0n]));
  for (const term of terms) {
    const value = answers.get(term) as bigint;
    if (term.op === "var") model.variables.set(term.name, value);
    if (term.op === "apply") {
      const args = term.args.map((arg) => (arg.op === "const" ? arg.value : (answers.get(arg) as bigint)));
      model.applications.set(Model.key(term.name, args), value);
    }
  }
  return model;
}
