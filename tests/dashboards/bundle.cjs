// Compiles grafana.jsx with esbuild: node bundle.cjs TARGET, with the packages in NODE_PATH.
//
// Of the packages that @grafana/ui imports, packages.txt lists only those that our panels use. It has no editors and no maps.
// Any other is empty here: if a panel used one, drawing would fail.
const { build } = require('esbuild');
const { join } = require('path');

const isPackage = /^[^./]/;
const emptyIfMissing = {
  name: 'empty-if-missing',
  setup({ onLoad, onResolve, resolve }) {
    onResolve({ filter: isPackage }, async ({ path, pluginData, ...from }) => {
      if (pluginData?.isAsked || from.kind === 'entry-point') {
        return;
      }
      const { importer, resolveDir, kind } = from;
      const found = await resolve(path, { importer, resolveDir, kind, pluginData: { isAsked: true } });
      return found.errors.length ? { path, namespace: 'empty' } : found;
    });
    onLoad({ filter: /.*/, namespace: 'empty' }, () => ({ contents: 'module.exports = {}' }));
  },
};

build({
  entryPoints: [join(__dirname, 'grafana.jsx')],
  outfile: process.argv[2],
  bundle: true,
  minify: true,
  logLevel: 'error',
  plugins: [emptyIfMissing],
  nodePaths: [process.env.NODE_PATH],
  loader: { '.svg': 'dataurl', '.woff': 'empty', '.woff2': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
}).catch(() => process.exit(1));
