(() => {
  'use strict';
  const $ = (id) => document.getElementById(id);
  const make = (tag, text) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const clock = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    const two = (n) => String(n).padStart(2, '0');
    const h = Math.floor(s / 3600);
    return h ? `${h}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
  };
  document.documentElement.classList.add('js');

  // light and dark
  const theme = $('theme');
  theme.hidden = false;
  theme.addEventListener('click', () => {
    const root = document.documentElement;
    const now = root.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
    root.dataset.theme = now === 'dark' ? 'light' : 'dark';
  });

  // one character, or one picture, in a dialog
  const viewer = $('viewer');
  const body = $('viewer-body');
  const sheets = [...document.querySelectorAll('.sheet')];
  let shown = -1; // position in sheets
  let origin = null; // what opened the dialog and gets the focus back

  const giveBack = () => {
    if (shown >= 0) $('sheets').insertBefore(sheets[shown], sheets[shown + 1] || null);
    shown = -1;
    body.replaceChildren();
  };
  const open = () => {
    if (!viewer.open) viewer.showModal();
  };
  const showSheet = (position) => {
    giveBack();
    shown = position;
    body.append(sheets[position]);
    for (const id of ['previous', 'next']) $(id).hidden = sheets.length < 2;
    viewer.setAttribute('aria-label', sheets[position].getAttribute('aria-label'));
    open();
    viewer.scrollTop = 0;
    sheets[position].focus({ preventScroll: true });
  };
  const showPicture = (shot) => {
    giveBack();
    const figure = make('figure');
    figure.className = 'big';
    const img = shot.querySelector('img').cloneNode();
    figure.append(img, make('figcaption', `${shot.dataset.where} · ${shot.dataset.details}`));
    body.append(figure);
    for (const id of ['previous', 'next']) $(id).hidden = true;
    viewer.setAttribute('aria-label', img.alt);
    open();
  };
  const forget = () => {
    if (!location.hash.startsWith('#character-')) return;
    try { history.replaceState(null, '', location.pathname + location.search); } catch { location.hash = ''; }
  };
  const follow = () => {
    const position = sheets.findIndex((sheet) => `#${sheet.id}` === location.hash);
    if (position >= 0) showSheet(position);
    else if (viewer.open && shown >= 0) shut();
  };
  const step = (by) => {
    if (shown < 0) return;
    location.hash = sheets[(shown + by + sheets.length) % sheets.length].id;
  };
  addEventListener('hashchange', follow);
  const tidy = () => { // runs once more when the browser tells of the closing; the second time does nothing
    if (viewer.open) return;
    giveBack();
    forget();
    if (origin) origin.focus({ preventScroll: true });
    origin = null;
  };
  const shut = () => { viewer.close(); tidy(); };
  viewer.addEventListener('close', tidy); // by Escape
  viewer.addEventListener('click', (event) => { if (event.target === viewer) shut(); });
  $('close').addEventListener('click', shut);
  $('previous').addEventListener('click', () => step(-1));
  $('next').addEventListener('click', () => step(1));
  viewer.addEventListener('keydown', (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[href^="#character-"]');
    if (link && !viewer.open) origin = link;
    if (link && link.getAttribute('href') === location.hash) follow(); // the address does not change
    const shot = event.target.closest('.shot');
    if (!shot) return;
    const sheet = shot.closest('.sheet');
    const stage = sheet && sheet.querySelector('.stage');
    if (!stage) { origin = shot; showPicture(shot); return; }
    for (const other of sheet.querySelectorAll('.shot[aria-current]')) other.removeAttribute('aria-current');
    shot.setAttribute('aria-current', 'true');
    const from = shot.querySelector('img');
    const to = stage.querySelector('img');
    to.src = from.src;
    to.alt = from.alt;
    stage.querySelector('b').textContent = shot.dataset.where;
    stage.querySelector('figcaption span').textContent = shot.dataset.details;
  });

  const lanes = $('lanes');
  if (lanes) timeline();
  follow();

  function timeline() {
    const scale = Number(lanes.dataset.scale);
    const videos = lanes.dataset.videos.split(',').map((pair, i) => {
      const [offset, length] = pair.split(' ').map(Number);
      return { offset, length, name: $('video-names').children[i].textContent };
    });
    const total = { offset: 0, length: Number(lanes.dataset.total) };
    const rows = [...lanes.querySelectorAll('.lane')].map((lane) => {
      const path = lane.querySelector('path').getAttribute('d');
      const spans = [...path.matchAll(/M(\d+) 0h(\d+)/g)].map(([, x, w]) => [x / scale, (Number(x) + Number(w)) / scale]);
      return { lane, spans, name: lane.dataset.name, track: lane.querySelector('.track'), svg: lane.querySelector('svg'), at: -1 };
    });
    let view = total;

    const videoAt = (t) => { // videos are in order: the last one that begins before t
      let low = 0;
      let high = videos.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (videos[middle].offset <= t) low = middle; else high = middle - 1;
      }
      return videos[low];
    };
    const spanAt = (row, t) => {
      let low = 0;
      let high = row.spans.length - 1;
      while (low <= high) {
        const middle = (low + high) >> 1;
        const [start, end] = row.spans[middle];
        if (t < start) high = middle - 1; else if (t > end) low = middle + 1; else return middle;
      }
      return -1;
    };

    const draw = () => {
      const box = `${Math.round(view.offset * scale)} 0 ${Math.max(1, Math.round(view.length * scale))} 10`;
      for (const row of rows) row.svg.setAttribute('viewBox', box);
      const one = view !== total || videos.length === 1;
      const width = rows[0].track.clientWidth;
      drawTicks(one, width);
      drawBands(width);
      hide();
    };
    const drawTicks = (one, width) => {
      const ticks = $('ticks');
      ticks.replaceChildren();
      if (!one && videos.length > 1) { ticks.hidden = true; return; }
      ticks.hidden = false;
      const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000, 86400];
      const most = Math.max(2, Math.floor(width / 80));
      const gap = steps.find((s) => view.length / s <= most) || view.length / most;
      for (let t = 0; t <= view.length * 0.985; t += gap) {
        const tick = make('span', clock(t));
        tick.style.left = `${(100 * t) / view.length}%`;
        ticks.append(tick);
      }
    };
    const drawBands = (width) => {
      const bands = $('bands');
      bands.replaceChildren();
      if (view !== total || videos.length < 2 || videos.length > 400) return;
      videos.forEach((video, i) => {
        const share = video.length / total.length;
        const band = make('button', share * width > 48 ? video.name : '');
        band.type = 'button';
        band.tabIndex = -1; // the list of videos serves the keyboard
        band.title = video.name;
        band.style.left = `${(100 * video.offset) / total.length}%`;
        band.style.width = `${100 * share}%`;
        band.addEventListener('click', () => { $('video').value = i; choose(); });
        bands.append(band);
      });
    };
    const choose = () => { view = videos[Number($('video').value)] || total; draw(); };

    const tip = $('tip');
    const cursor = $('cursor');
    const hide = () => { tip.hidden = true; cursor.hidden = true; };
    const nearest = (row, video, t) => {
      let best = null;
      for (const shot of document.querySelectorAll(`#character-${row.lane.dataset.number} .shot`)) {
        if (Number(shot.dataset.video) !== videos.indexOf(video)) continue;
        const distance = Math.abs(Number(shot.dataset.time) - t);
        if (!best || distance < best.distance) best = { distance, shot };
      }
      return best && best.shot;
    };
    const point = (row, t) => {
      const area = row.track.getBoundingClientRect();
      const outer = lanes.getBoundingClientRect();
      const x = area.left + ((t - view.offset) / view.length) * area.width;
      cursor.hidden = false;
      cursor.style.left = `${x - outer.left}px`;
      const video = videoAt(t);
      const local = t - video.offset;
      const here = rows.filter((other) => spanAt(other, t) >= 0).map((other) => other.name);
      const words = make('div');
      words.append(make('b', clock(local)));
      if (videos.length > 1) words.append(make('span', video.name));
      const most = 5;
      const others = here.length > most ? ` and ${here.length - most} more` : '';
      words.append(make('span', here.length ? here.slice(0, most).join(', ') + others : 'nobody on screen'));
      const shot = spanAt(row, t) >= 0 && nearest(row, video, local);
      tip.replaceChildren(words);
      if (shot) tip.prepend(shot.querySelector('img').cloneNode());
      tip.hidden = false;
      const left = Math.min(Math.max(8, x + 14), innerWidth - tip.offsetWidth - 8);
      const above = area.top - tip.offsetHeight - 6;
      tip.style.transform = `translate(${left}px, ${above > 60 ? above : area.bottom + 6}px)`;
      return `${clock(local)}${videos.length > 1 ? `, ${video.name}` : ''}: ${here.join(', ') || 'nobody'}`;
    };

    const move = (event) => {
      const row = rows.find((r) => r.track === event.currentTarget);
      const area = row.track.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - area.left) / area.width));
      point(row, view.offset + share * view.length);
    };
    for (const row of rows) {
      row.track.addEventListener('pointermove', move);
      row.track.addEventListener('pointerdown', move);
      row.track.addEventListener('pointerleave', hide);
      row.track.addEventListener('blur', hide);
      row.track.addEventListener('keydown', (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (event.key === 'Escape') hide();
        if (!by) return;
        event.preventDefault();
        const inside = row.spans.filter(([start]) => start >= view.offset && start < view.offset + view.length);
        if (!inside.length) return;
        row.at = Math.min(inside.length - 1, Math.max(0, row.at + by));
        const [start, end] = inside[row.at];
        $('announce').textContent = `${row.name} until ${clock(end - videoAt(start).offset)}. ${point(row, (start + end) / 2)}`;
      });
    }
    if ($('video')) {
      document.querySelector('.chooser').hidden = false;
      $('video').addEventListener('change', choose);
    }
    addEventListener('resize', draw);
    addEventListener('scroll', hide, { passive: true });
    draw();
  }
})();
