/**
 * A refusal of boot/: something is missing or unsuitable and the user can do something about it. The message is one
 * line: the thing and its value, then the way out. The command line prints it as it is and exits with status 2.
 */
export class BootError extends Error {
  override readonly name = "BootError";

  /**
   * @param problem what is wrong, naming the thing and the offending value: `kernel vmlinuz is truncated at 4096 bytes`
   * @param remedy what the user can do: `download it again`
   */
  constructor(problem: string, remedy: string, options?: ErrorOptions) {
    super(oneLine(`${problem}; ${remedy}`), options);
  }
}

/** The text with line ends and runs of blanks folded to single blanks. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** The `code` of a system error (`ENOENT`, `ENOSPC`, ...), or undefined for any other value. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
