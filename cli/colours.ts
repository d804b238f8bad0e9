import pc from "picocolors";

/**
 * The colours of what the command writes to standard output: on a terminal, unless NO_COLOR is set (no-color.org), and nowhere
 * else. picocolors by itself also colours what goes to a file wherever the variable CI is set.
 */
export const colours = pc.createColors(wantsColours(process.stdout, process.env));

/** Whether a stream shows colours to a person. */
export function wantsColours(
  stream: { readonly isTTY?: boolean },
  environment: Readonly<Record<string, string | undefined>>,
): boolean {
  return stream.isTTY === true && !environment.NO_COLOR;
}
