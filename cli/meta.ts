import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findOnPath, runCommand } from "../boot/command.ts";
import { oneLine } from "../boot/error.ts";
import { repository } from "./repository.ts";

/** The argument from lemmas about steps to whole executions: docs/theorem.md tells it. */
const metaFile = join(repository, "proof", "meta", "Noninterference.v");

/** What must have been proved of it, from nothing. */
const theorems = [
  "invariants_hold",
  "free_locks_guard_what_is_in_order",
  "every_demand_is_met",
  "noninterference",
  "what_is_mine_stays",
  "layers_compose",
  "noninterference_below",
  "noninterference_of_the_machine",
] as const;

/** What Coq says of a theorem whose proof rests on no axiom and leaves nothing out. */
const CLOSED = "Closed under the global context";

/** Whether the meta-argument holds: `words` are for the `meta` of `corevisor verify --json`. */
export interface MetaState {
  /** `missing`: there is no Coq to ask. `refused`: Coq does not accept it, or only with axioms. */
  readonly state: "checked" | "missing" | "refused" | "unasked";
  readonly words: "checked" | `not checked: ${string}`;
}

/** Nobody asked for it. */
export const unasked: MetaState = { state: "unasked", words: "not checked: --meta was not given" };

/**
 * Has Coq check the meta-argument.
 * @param file another copy of it, for tests
 */
export async function checkMeta(signal: AbortSignal, file = metaFile): Promise<MetaState> {
  const coqc = await findOnPath("coqc");
  if (coqc === undefined)
    return {
      state: "missing",
      words: "not checked: coqc is not on PATH; apt-get install --no-install-recommends coq",
    };
  const folder = await mkdtemp(join(tmpdir(), "corevisor-meta-"));
  try {
    const questions = theorems.map((name) => `Print Assumptions ${name}.`);
    await writeFile(join(folder, "Meta.v"), `${await readFile(file, "utf8")}\n${questions.join("\n")}\n`);
    const { status, stdout, stderr } = await runCommand(coqc, ["-q", "-noglob", "Meta.v"], {
      cwd: folder,
      signal,
    });
    if (status !== 0) return refused(oneLine(stderr) || `coqc ended with ${status}`);
    // One answer a question, in their order, after those to the questions that the file asks itself.
    const answers = stdout.trim().split("\n").slice(-theorems.length);
    const open = theorems.filter((_, n) => answers[n] !== CLOSED);
    return open.length === 0
      ? { state: "checked", words: "checked" }
      : refused(`it rests on assumptions: ${oneLine(stdout.replaceAll(CLOSED, ""))}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function refused(why: string): MetaState {
  return { state: "refused", words: `not checked: Coq refuses it: ${why}` };
}
