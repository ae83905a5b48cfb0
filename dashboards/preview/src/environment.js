// What Grafana's application sets up when it starts, as far as its components need it.

import {
  createTheme, identityOverrideProcessor, standardEditorsRegistry, standardFieldConfigEditorRegistry,
  standardTransformers, standardTransformersRegistry,
} from '@grafana/data';
import { config, setAppEvents, setLocationSrv } from '@grafana/runtime';
import { EventBusSrv } from '@grafana/data';

export const theme = createTheme({ colors: { mode: 'dark' } });

// An option of a field that passes through as the board has it.
export const option = (path, defaultValue) => ({
  id: path, path, name: path, defaultValue, settings: {},
  editor: () => null, override: () => null, process: identityOverrideProcessor, shouldApply: () => true,
});

const FIELD_OPTIONS = [
  'unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links', 'actions',
  'filterable', 'fieldMinMax', 'description',
];

export function prepare() {
  config.theme2 = theme;
  config.featureToggles ??= {};
  config.buildInfo ??= { version: '13.0.1' };
  setAppEvents(new EventBusSrv());
  setLocationSrv({ update() {} });
  standardFieldConfigEditorRegistry.setInit(() => FIELD_OPTIONS.map((path) => option(path)));
  standardEditorsRegistry.setInit(() => []);
  standardTransformersRegistry.setInit(() => Object.values(standardTransformers).map((transformation) => ({
    id: transformation.id, name: transformation.name, transformation, editor: () => null, imageDark: '', imageLight: '',
  })));
}
