/** The generated client asks the bundler how it is built. */
declare const process: { env: Record<string, string | undefined> };
