/** Mutation testing of a proof: how many changes of the core it notices. */

import type { Farm, MutantVerdict } from "./farm.ts";
import type { Mutant } from "./mutation.ts";
import type { Palette } from "./report.ts";
import { plain } from "./report.ts";

/** A mutant and what became of it. */
export interface Judged extends MutantVerdict {
  readonly mutant: Mutant;
}

/** A mutant whose verification crashed is undecided: nobody has seen the proof fail. */
async function judge(farm: Farm, mutant: Mutant): Promise<MutantVerdict> {
  try {
    const answer = await farm.ask({ kind: "mutant", wasm: mutant.bytes, function: mutant.function });
    return "mutant" in answer ? answer.mutant : { status: "undecided", reason: "no answer" };
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    if (/does not start|no solver/.test(words)) throw error;
    return { status: "undecided", reason: words };
  }
}

/**
 * Judges every mutant.
 * @param onJudged told how many are judged and killed so far
 */
export async function judgeAll(
  farm: Farm,
  drawn: readonly Mutant[],
  onJudged: (done: number, killed: number) => void,
): Promise<Judged[]> {
  let done = 0;
  let killed = 0;
  return Promise.all(
    drawn.map(async (mutant) => {
      const verdict = await judge(farm, mutant);
      if (verdict.status === "killed") killed++;
      onJudged(++done, killed);
      return { mutant, ...verdict };
    }),
  );
}

/** The JSON that scripts rely on. */
export interface MutationSummary {
  readonly mutants: number;
  readonly killed: number;
  readonly equivalent: number;
  readonly undecided: number;
  /** The killed ones' part of the mutants that are not equivalent. */
  readonly ratio: number;
  readonly survivors: readonly Shown[];
  readonly equivalents: readonly Shown[];
  readonly seconds: number;
}

interface Shown {
  readonly id: string;
  readonly function: string;
  readonly line: number | null;
  readonly change: string;
  readonly reason: string;
}

/** Undecided mutants are survivors: nobody has seen them caught. */
export function summarizeMutants(judged: readonly Judged[], seconds: number): MutationSummary {
  const of = (...statuses: MutantVerdict["status"][]) =>
    judged.filter(({ status }) => statuses.includes(status));
  const shown = ({ mutant, status, reason }: Judged): Shown => ({
    id: mutant.id,
    function: mutant.function,
    line: mutant.line ?? null,
    change: mutant.change,
    reason: status === "undecided" ? `undecided: ${reason}` : reason,
  });
  const killed = of("killed").length;
  const equivalents = of("equivalent");
  const different = judged.length - equivalents.length;
  return {
    mutants: judged.length,
    killed,
    equivalent: equivalents.length,
    undecided: of("undecided").length,
    ratio: different === 0 ? 1 : Number((killed / different).toFixed(4)),
    survivors: of("survived", "undecided").map(shown),
    equivalents: equivalents.map(shown),
    seconds: Number(seconds.toFixed(1)),
  };
}

/** The survivors, and counts at the end. */
export function describeMutants(summary: MutationSummary, colours: Palette = plain): string {
  const { killed, mutants, equivalent, survivors, ratio, seconds } = summary;
  const lines = survivors.map(({ function: name, line, change, reason }) => {
    const place = line === null ? name : `${name}, line ${line}`;
    return `${colours.yellow("survives")}  ${place}: ${change}\n          ${reason}`;
  });
  const percent = (100 * ratio).toFixed(1);
  lines.push(
    `${killed} of ${mutants} mutants killed, ${equivalent} equivalent, ${survivors.length} survive: ${percent} % of those that are not equivalent`,
    `${seconds} s`,
    "",
  );
  return lines.join("\n");
}
