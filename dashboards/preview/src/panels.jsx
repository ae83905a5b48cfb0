// The kinds of panels that the boards have, on Grafana's components; a heatmap and a state timeline are
// not among the published ones and are drawn plainly.

import React from 'react';
import {
  FieldColorModeId, FieldConfigProperty, getDisplayValueAlignmentFactors, getFieldDisplayValues, PanelPlugin,
} from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { option, theme } from './environment.js';

// What a panel says when it has nothing to show; a tile says it in its own way.
const Empty = ({ text }) => <div style={{ padding: 16, color: theme.colors.text.secondary }}>{text ?? 'No data'}</div>;
const drawn = (Panel) => (props) => (props.data.series.length || Panel === Stat
  ? <Panel {...props} />
  : <Empty text={props.fieldConfig.defaults.noValue} />);

const Lines = ({ data, width, height, timeRange, timeZone, options }) => (
  <TimeSeries frames={data.series} structureRev={data.structureRev} timeRange={timeRange} timeZone={timeZone}
    width={width} height={height} legend={options.legend} options={options} />
);

const values = (props) => getFieldDisplayValues({
  fieldConfig: props.fieldConfig, reduceOptions: props.options.reduceOptions, replaceVariables: props.replaceVariables,
  theme, data: props.data.series, sparkline: true, timeZone: props.timeZone,
});

const Stat = (props) => (
  <VizRepeater source={props.data} width={props.width} height={props.height} orientation="auto"
    renderCounter={props.renderCounter} getValues={() => values(props)}
    renderValue={({ value, width, height, count }) => (
      <BigValue value={value.display} sparkline={value.sparkline} count={count} width={width} height={height}
        colorMode={props.options.colorMode} graphMode={props.options.graphMode} textMode={props.options.textMode}
        justifyMode={props.options.justifyMode} theme={theme} />
    )} />
);

const Bars = (props) => (
  <VizRepeater source={props.data} width={props.width} height={props.height} orientation={props.options.orientation}
    itemSpacing={4} renderCounter={props.renderCounter} getValues={() => values(props)}
    getAlignmentFactors={getDisplayValueAlignmentFactors}
    renderValue={({ value, width, height, orientation, alignmentFactors }) => (
      <BarGauge value={value.display} field={value.field} width={width} height={height} orientation={orientation}
        display={value.view?.getFieldDisplayProcessor?.(value.colIndex)} alignmentFactors={alignmentFactors}
        displayMode={props.options.displayMode} valueDisplayMode={props.options.valueMode} showUnfilled itemSpacing={4}
        lcdCellWidth={12} namePlacement="auto" isOverflow={false} theme={theme} />
    )} />
);

const bound = (field) => (field.labels.le === '+Inf' ? Infinity : Number(field.labels.le));

const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);

// One row a bucket; Prometheus' buckets contain all smaller ones.
function Heat({ data, width, height, timeRange }) {
  const canvas = React.useRef();
  React.useEffect(() => {
    const context = canvas.current.getContext('2d');
    const rows = data.series.map((frame) => [frame.fields[0], frame.fields[1]]).sort(([, a], [, b]) => bound(a) - bound(b));
    const at = rows.map(([times, field]) => new Map(times.values.map((time, index) => [time, field.values[index] ?? 0])));
    const left = 68, bottom = 20, tall = (height - bottom) / rows.length;
    const times = [...new Set(rows.flatMap(([field]) => [...field.values]))].sort();
    const from = timeRange.from.valueOf(), scale = (width - left) / (timeRange.to.valueOf() - from);
    const cell = Math.max(2, scale * ((times[1] ?? 0) - (times[0] ?? 0)));
    const own = at.map((row, index) => times.map((time) => Math.max(0, (row.get(time) ?? 0) - (at[index - 1]?.get(time) ?? 0))));
    const most = Math.max(...own.flat());
    context.clearRect(0, 0, width, height);
    context.font = '12px sans-serif';
    own.forEach((row, index) => {
      const y = height - bottom - (index + 1) * tall;
      row.forEach((count, column) => {
        if (!count) return;
        const strength = Math.sqrt(count / most);
        context.fillStyle = `rgba(255, ${Math.round(170 - 90 * strength)}, 50, ${0.12 + 0.88 * strength})`;
        context.fillRect(left + (times[column] - from) * scale, y, cell - 0.5, tall - 1);
      });
      context.fillStyle = theme.colors.text.secondary;
      const le = bound(rows[index][1]);
      if (index % 2 === 0 || tall > 13) context.fillText(le === Infinity ? 'more' : `≤ ${seconds(le)}`, 2, y + tall / 2 + 4);
    });
    for (let part = 0; part < 5; part++) {
      const time = new Date(from + (part / 5) * (timeRange.to.valueOf() - from));
      context.fillText(time.toTimeString().slice(0, 8), left + (part / 5) * (width - left), height - 4);
    }
  });
  return <canvas ref={canvas} width={width} height={height} />;
}

// Where each value begins and ends; nothing where there is none, as while an instance is down.
function runs([times, field]) {
  const step = times.config.interval, found = [];
  field.values.forEach((value, index) => {
    const start = times.values[index], last = found.at(-1);
    if (last?.value === value && start - last.end < step) last.end = start + step;
    else found.push({ value, start, end: start + step });
  });
  return found;
}

function States({ data, width, height, timeRange }) {
  const left = 110, axis = 20;
  const tall = Math.min(60, (height - axis - 8) / data.series.length);
  const from = timeRange.from.valueOf(), shown = timeRange.to.valueOf() - from;
  const percent = (time) => `${(100 * time) / shown}%`;
  const count = Math.max(1, Math.floor((width - left) / 75));
  const times = Array.from({ length: count }, (_, part) => new Date(from + (part / count) * shown).toTimeString().slice(0, 8));
  return (
    <div style={{ padding: 4, fontSize: 12 }}>
      {data.series.map(({ fields }, row) => (
        <div key={row} style={{ display: 'flex', height: tall - 4, marginBottom: 4, alignItems: 'center' }}>
          <span style={{ width: left, flex: 'none' }}>{fields[1].config.displayNameFromDS}</span>
          <div style={{ flex: 1, position: 'relative', overflow: 'hidden', height: '100%' }}>
            {runs(fields).map(({ value, start, end }) => (
              <div key={start} style={{
                position: 'absolute', height: '100%', opacity: 0.8, background: fields[1].display(value).color,
                left: percent(start - from), width: percent(end - start),
              }} />
            ))}
          </div>
        </div>
      ))}
      <div style={{ display: 'flex', marginLeft: left, color: theme.colors.text.secondary }}>
        {times.map((time) => <span key={time} style={{ flex: 1 }}>{time}</span>)}
      </div>
    </div>
  );
}

// The options of a line, and what they are where the board is silent.
const LINE = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', showPoints: 'never',
  pointSize: 5, stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto', axisColorMode: 'text', axisBorderShow: false,
  axisGridShow: true, axisCenteredZero: false, axisSoftMin: undefined, axisSoftMax: undefined, axisLabel: '',
  scaleDistribution: { type: 'linear' }, hideFrom: { viz: false, legend: false, tooltip: false }, spanNulls: false,
  insertNulls: false, thresholdsStyle: { mode: 'off' }, lineStyle: undefined, barAlignment: 0, barWidthFactor: 0.6,
  showValues: false,
};

function plugin(id, Panel, custom = {}) {
  const made = new PanelPlugin(drawn(Panel));
  const info = { version: '13.0.1', logos: { small: '', large: '' } };
  made.meta = { id, name: id, type: 'panel', info, module: '', baseUrl: '', sort: 1 };
  const mode = id === 'timeseries' ? FieldColorModeId.PaletteClassic : FieldColorModeId.Thresholds;
  made.useFieldConfig({
    standardOptions: { [FieldConfigProperty.Color]: { defaultValue: { mode } } },
    useCustomConfig: (builder) => Object.entries(custom).forEach(([path, value]) => builder.addCustomEditor(option(path, value))),
  });
  return made;
}

export const PANELS = {
  timeseries: plugin('timeseries', Lines, LINE),
  stat: plugin('stat', Stat),
  bargauge: plugin('bargauge', Bars),
  heatmap: plugin('heatmap', Heat),
  'state-timeline': plugin('state-timeline', States),
};
