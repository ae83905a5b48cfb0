// Draws the board `?board=overview` over the data of the Prometheus `?prometheus=http://...`.
// window.shown says what each panel asks for and has: shoot.mjs waits for it and judges it.

import 'react-grid-layout/css/styles.css';
import 'react-resizable/css/styles.css';
import 'uplot/dist/uPlot.min.css';
import React from 'react';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import { ThemeContext } from '@grafana/data';
import { setDataSourceSrv, setPluginImportUtils, setRunRequest } from '@grafana/runtime';
import {
  DataSourceVariable, EmbeddedScene, QueryVariable, sceneGraph, SceneControlsSpacer, SceneGridItem, SceneGridLayout,
  SceneGridRow, SceneQueryRunner, SceneTimePicker, SceneTimeRange, sceneUtils, SceneVariableSet, VariableValueSelectors,
  VizPanel,
} from '@grafana/scenes';
import { VariableHide } from '@grafana/schema';
import { GlobalStyles } from '@grafana/ui';
import { prepare, theme } from './environment.js';
import { PANELS } from './panels.jsx';
import { Prometheus, runRequest } from './prometheus.js';

const parameters = new URLSearchParams(location.search);
const chosen = Object.fromEntries([...parameters].filter(([name]) => name.startsWith('var-')).map(([name, value]) => [name.slice(4), value]));
let scene;
window.shown = {};

// As Grafana's plugin puts a variable into a regular expression inside of a string.
const escaped = (value) => (value === '.*' ? value : String(value).replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&'));
const inQuery = (value) => (Array.isArray(value) ? `(${value.map(escaped).join('|')})` : escaped(value));
const interpolate = (text, scopedVars) => sceneGraph.interpolate(scene, text, scopedVars, inQuery);

prepare();
const source = new Prometheus(parameters.get('prometheus'), Number(parameters.get('scrape') ?? 2), interpolate);
const settings = {
  uid: 'prometheus', name: 'Prometheus', type: 'prometheus', access: 'proxy', isDefault: true, readOnly: true, jsonData: {},
  meta: { id: 'prometheus', name: 'Prometheus', info: { logos: { small: '' } }, metrics: true },
};
setDataSourceSrv({ get: async () => source, getInstanceSettings: () => settings, getList: () => [settings], registerRuntimeDataSource() {}, reload() {} });
sceneUtils.registerRuntimeDataSource({ dataSource: source });
setRunRequest(runRequest);
setPluginImportUtils({ importPanelPlugin: async (id) => PANELS[id], getPanelPluginFromCache: (id) => PANELS[id] });

function variable(model) {
  const { name, label } = model;
  if (model.type === 'datasource') {
    // There is one to choose from.
    return new DataSourceVariable({ name, label, pluginId: model.query, value: 'prometheus', text: 'Prometheus', hide: VariableHide.hideVariable });
  }
  const all = model.includeAll && !chosen[name];
  return new QueryVariable({
    name, label, datasource: model.datasource, query: model.query, isMulti: model.multi, includeAll: model.includeAll,
    allValue: model.allValue, refresh: model.refresh, value: all ? '$__all' : chosen[name] ?? '', text: all ? 'All' : chosen[name] ?? '',
  });
}

function panel(model) {
  const queries = model.targets.map((target) => ({ ...target, title: model.title }));
  const metrics = model.targets.flatMap(({ expr }) => expr.match(/unstale_\w+/g));
  const data = new SceneQueryRunner({ datasource: model.datasource, queries });
  data.subscribeToState(({ data: answer }) => {
    if (!answer) return;
    const values = answer.series.flatMap((frame) => frame.fields.slice(1).flatMap((field) => [...field.values]));
    const found = values.filter((value) => value !== null).length;
    window.shown[model.title] = { state: answer.state, values: found, error: answer.error?.message, metrics };
  });
  window.shown[model.title] = { state: 'NotStarted', metrics };
  const { x, y, w, h } = model.gridPos;
  const body = new VizPanel({
    title: model.title, description: model.description, pluginId: model.type, options: model.options, fieldConfig: model.fieldConfig, $data: data,
  });
  return new SceneGridItem({ x, y, width: w, height: h, body });
}

function toScene(board) {
  const rows = [];
  for (const model of board.panels) {
    if (model.type === 'row') rows.push(new SceneGridRow({ title: model.title, y: model.gridPos.y, x: 0, children: [], isCollapsed: false }));
    else rows.at(-1).setState({ children: [...rows.at(-1).state.children, panel(model)] });
  }
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from: parameters.get('from'), to: 'now' }),
    $variables: new SceneVariableSet({ variables: board.templating.list.map(variable) }),
    controls: [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({})],
    body: new SceneGridLayout({ children: rows, isLazy: false }),
  });
}

const board = await (await fetch(`/${parameters.get('board')}.json`)).json();
scene = toScene(board);
window.faults = () => sceneGraph.findAllObjects(scene, (object) => object instanceof VizPanel && object.state._pluginLoadError)
  .map(({ state }) => `${state.title}: ${state._pluginLoadError}`);
const page = { background: theme.colors.background.canvas, color: theme.colors.text.primary, padding: 8, minHeight: '100vh' };
createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <MemoryRouter>
      <div style={page}>
        <h3 style={{ margin: 8 }}>{board.title}</h3>
        <scene.Component model={scene} />
      </div>
    </MemoryRouter>
  </ThemeContext.Provider>,
);
