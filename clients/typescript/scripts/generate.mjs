// `npm run generate`: the IDL beside the program, and this package's code from it.

import { readFile, writeFile } from 'node:fs/promises';
import { renderVisitor } from '@codama/renderers-js';
import { createFromRoot } from 'codama';
import { idl } from './idl.mjs';

const here = (path) => new URL(path, import.meta.url);

const root = idl(JSON.parse(await readFile(here('../interface.json'), 'utf8')));
await writeFile(
  here('../../../programs/world-model/idl.json'),
  `${JSON.stringify(root, null, 1)}\n`,
);
await createFromRoot(root).accept(
  renderVisitor(here('..').pathname, {
    deleteFolderBeforeRendering: true,
    formatCode: true,
    generatedFolder: 'src/generated',
    kitImportStrategy: 'rootOnly',
    syncPackageJson: false,
  }),
);
// The renderer's plugin, which we do not use, does not pass the type check of this kit.
const plugin = here('../src/generated/programs/worldModel.ts');
await writeFile(plugin, `// @ts-nocheck\n${await readFile(plugin, 'utf8')}`);
