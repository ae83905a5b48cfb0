import { defineConfig } from 'vite';

// Grafana's packages expect what webpack gives the application.
export default defineConfig({
  define: { 'process.env.NODE_ENV': '"production"', 'process.env': '{}', global: 'globalThis' },
  esbuild: { jsx: 'automatic' },
  build: { outDir: 'dist', minify: false, target: 'es2022', chunkSizeWarningLimit: 1e6 },
});
