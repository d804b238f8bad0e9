/** Propositional formulas in conjunctive normal form, in memory and as DIMACS text. */

/** Clauses over variables 1 and up; literals are the variables and their negatives. */
export interface Cnf {
  readonly variables: number;
  /** Number of clauses. */
  readonly count: number;
  /** The literals of each clause, followed by 0. */
  readonly literals: Int32Array;
}

/** Collects clauses. */
export class CnfBuilder {
  private literals = new Int32Array(1 << 14);
  private length = 0;
  variables = 0;
  count = 0;

  variable(): number {
    return ++this.variables;
  }

  /** Adds a clause, without its final 0. */
  clause(literals: ArrayLike<number>): void {
    if (this.length + literals.length + 1 > this.literals.length) {
      const larger = new Int32Array(2 * (this.length + literals.length + 1));
      larger.set(this.literals);
      this.literals = larger;
    }
    this.literals.set(literals, this.length);
    this.length += literals.length;
    this.literals[this.length++] = 0;
    this.count++;
  }

  build(): Cnf {
    return { variables: this.variables, count: this.count, literals: this.literals.slice(0, this.length) };
  }
}

/** The formula as DIMACS text. */
export function toDimacs(cnf: Cnf): Uint8Array {
  const header = new TextEncoder().encode(`p cnf ${cnf.variables} ${cnf.count}\n`);
  let bytes = new Uint8Array(header.length + cnf.literals.length * 8);
  bytes.set(header);
  let at = header.length;
  for (let next = 0; next < cnf.literals.length; next++) {
    const literal = cnf.literals[next] as number;
    if (at + 16 > bytes.length) {
      const larger = new Uint8Array(2 * bytes.length);
      larger.set(bytes);
      bytes = larger;
    }
    if (literal === 0) {
      bytes[at++] = 48;
      bytes[at++] = 10;
      continue;
    }
    let magnitude = literal;
    if (literal < 0) {
      bytes[at++] = 45;
      magnitude = -literal;
    }
    let digits = 1;
    for (let power = 10; power <= magnitude; power *= 10) digits++;
    for (let i = digits - 1; i >= 0; i--) {
      const tens = (magnitude / 10) | 0;
      bytes[at + i] = 48 + magnitude - 10 * tens;
      magnitude = tens;
    }
    at += digits;
    bytes[at++] = 32;
  }
  return bytes.subarray(0, at);
}

/**
 * Reads DIMACS text.
 * @throws Error when it is malformed or does not hold what its header says
 */
export function fromDimacs(text: string): Cnf {
  const builder = new CnfBuilder();
  let header: RegExpExecArray | null = null;
  let clause: number[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("c") || line.trim() === "") continue;
    if (line.startsWith("p")) {
      header = /^p cnf (\d+) (\d+)\s*$/.exec(line);
      if (!header) throw new Error(`DIMACS: bad header ${line}`);
      builder.variables = Number(header[1]);
      continue;
    }
    for (const word of line.trim().split(/\s+/)) {
      const literal = Number(word);
      if (!Number.isInteger(literal) || Math.abs(literal) > builder.variables)
        throw new Error(`DIMACS: bad literal ${word}`);
      if (literal !== 0) {
        clause.push(literal);
        continue;
      }
      builder.clause(clause);
      clause = [];
    }
  }
  if (!header || builder.count !== Number(header[2]) || clause.length > 0)
    throw new Error("DIMACS: not as the header says");
  return builder.build();
}
