// Prometheus by its own HTTP API, in the place of Grafana's plugin.

import { FieldType, LoadingState, toDataFrame } from '@grafana/data';
import { RuntimeDataSource } from '@grafana/scenes';
import { catchError, from, map, of } from 'rxjs';

const LABEL_VALUES = /^label_values\((.*),\s*(\w+)\)$/;
const POINTS = 300; // at most, of one line

export class Prometheus extends RuntimeDataSource {
  meta = { id: 'prometheus', info: { version: '' } };

  // `interpolate` fills in the board's variables.
  constructor(url, scrapeSeconds, interpolate) {
    super('prometheus', 'prometheus');
    Object.assign(this, { url, scrapeSeconds, interpolate });
  }

  async api(path, parameters) {
    const reply = await (await fetch(`${this.url}/api/v1/${path}?` + new URLSearchParams(parameters))).json();
    if (reply.status !== 'success') throw new Error(reply.error);
    return reply.data;
  }

  // The values of a variable.
  async metricFindQuery(query, options) {
    const [, selector, label] = LABEL_VALUES.exec(this.interpolate(query.query ?? query, options?.scopedVars));
    const values = await this.api(`label/${label}/values`, { 'match[]': selector });
    return values.map((text) => ({ text }));
  }

  query(request) {
    const start = request.range.from.unix(), end = request.range.to.unix(), range = end - start;
    const step = Math.max(this.scrapeSeconds, Math.ceil(range / Math.min(request.maxDataPoints ?? POINTS, POINTS)));
    // As Grafana's plugin has it: four scrapes, or a step and a scrape.
    const rate = Math.max(step + this.scrapeSeconds, 4 * this.scrapeSeconds);
    const macros = { __rate_interval: `${rate}s`, __interval: `${step}s`, __range: `${range}s` };
    const values = Object.entries(macros).map(([name, text]) => [name, { text, value: text }]);
    const scoped = { ...request.scopedVars, ...Object.fromEntries(values) };
    const answers = request.targets.map(async (target) => {
      const query = this.interpolate(target.expr, scoped);
      const data = target.instant
        ? await this.api('query', { query, time: end })
        : await this.api('query_range', { query, start: start - (start % step), end, step });
      return data.result.map((series) => frame(series, target, step));
    });
    return from(Promise.all(answers)).pipe(map((frames) => ({ data: frames.flat(), state: LoadingState.Done })));
  }
}

function frame(series, target, step) {
  const points = series.values ?? [series.value];
  const legend = target.legendFormat?.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => series.metric[label] ?? '');
  const numbers = points.map(([, text]) => Number(text)).map((value) => (Number.isFinite(value) ? value : null));
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map(([at]) => at * 1000), config: { interval: step * 1000 } },
      {
        name: 'Value', type: FieldType.number, values: numbers, labels: series.metric,
        config: { displayNameFromDS: legend || target.title || 'value' },
      },
    ],
  });
}

// What a panel's query goes through in Grafana.
export function runRequest(source, request) {
  const base = { timeRange: request.range, request };
  return source.query(request).pipe(
    map((answer) => ({ ...base, state: LoadingState.Done, series: answer.data })),
    catchError((error) => of({
      ...base, state: LoadingState.Error, series: [], error: { message: error.message }, errors: [{ message: error.message }],
    })),
  );
}
