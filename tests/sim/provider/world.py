"""What all simulated providers share: the clock, the journal, faults, and the sending of
notifications with the providers' own retry tables."""
import collections
import json
import random
import threading
import time
import urllib.error
import urllib.request

# What may go wrong in a storm, as kind or (kind, arg); a provider's own kinds come on top.
STORM_CALLS = [('delay', 0.3), ('after-delay', 0.3), 'drop', 'after-drop', 'reset', 'after-reset', ('status', 500),
               ('status', 503), ('status', 429), ('after-status', 500), ('after-status', 502), 'wrong-signature',
               'no-signature', 'other-key', 'reserialise', 'truncate', 'length', 'chunked', 'duplicate-headers',
               ('loris', 0.001), 'busy', 'after-busy']
STORM_NOTICES = ['drop', ('delay', 0.7), ('delay', 3), 'wrong-signature', ('parallel', 3)]


class Call:
    """One request as it was heard: provider, endpoint, order, faults, and what its provider needs."""

    def __init__(self, **parts):
        self.__dict__.update(parts)


class World:
    """One lock guards everything; it is never held while bytes travel."""

    def __init__(self):
        self.lock = threading.RLock()
        self.offset = 0.0
        self.journal = collections.deque(maxlen=200000)
        self.faults = []
        self.storm = None
        self.calls = collections.Counter()
        self.queue = []
        self.sent = collections.defaultdict(list)
        self.sending = True
        self.serial = 0
        self.wake = threading.Condition(self.lock)
        threading.Thread(target=self._deliver, daemon=True).start()

    def now(self):
        """The providers' clock: the real one and an offset."""
        return time.time() + self.offset

    def advance(self, seconds):
        with self.wake:
            self.offset += seconds
            self.wake.notify_all()

    def number(self):
        with self.lock:
            self.serial += 1
            return self.serial

    def note(self, **entry):
        with self.lock:
            self.journal.append(dict(entry, at=self.now()))

    # Faults -------------------------------------------------------------------------------------

    def add_fault(self, kind, endpoint=None, order=None, host=None, after=0, count=1, arg=None):
        """The next `count` fitting calls (after `after` of them; count None: all) meet this fault;
        endpoint, order and host None fit all. Kinds are listed in README.md."""
        with self.lock:
            self.faults.append({'kind': kind, 'endpoint': endpoint, 'order': order, 'host': host, 'after': after,
                                'count': count, 'arg': arg})

    def faults_of(self, endpoint, order, host=None, own=()):
        """Faults of one call; each counts down. own: kinds only this provider knows, for a storm."""
        with self.lock:
            found = self._from_storm(endpoint, order, own)
            for fault in list(self.faults):
                if fault['endpoint'] not in (None, endpoint) and (fault['endpoint'] != 'any' or endpoint == 'notify') \
                        or fault['order'] not in (None, order) or fault['host'] not in (None, host):
                    continue
                if fault['after'] > 0:
                    fault['after'] -= 1
                    continue
                found[fault['kind']] = fault['arg']
                if fault['count'] is not None:
                    fault['count'] -= 1
                    if fault['count'] <= 0:
                        self.faults.remove(fault)
        return found

    def _from_storm(self, endpoint, order, own):
        """The plan of a storm: what the nth call of an endpoint for an order meets follows from the
        seed alone. The part of a number after its last _ is chance and does not count."""
        if self.storm is None:
            return {}
        stem = (order or '').rsplit('_', 1)[0]
        self.calls[endpoint, stem] += 1
        dice = random.Random('%s %s %s %d' % (self.storm['seed'], endpoint, stem, self.calls[endpoint, stem]))
        if dice.random() >= self.storm['rate']:
            return {}
        fault = dice.choice((STORM_NOTICES if endpoint == 'notify' else STORM_CALLS) + list(own))
        return {fault: None} if isinstance(fault, str) else {fault[0]: fault[1]}

    # Notifications ------------------------------------------------------------------------------

    def notify(self, url, make, accepts, table, about, own=()):
        """Sends make(faults) → (headers, body) to url until accepts(status, body), waiting
        according to table. about: what it is, for the log; about['order'] finds faults."""
        with self.wake:
            self.queue.append({'url': url, 'make': make, 'accepts': accepts, 'table': list(table), 'own': own,
                               'about': about, 'attempt': 0, 'due': self.now(), 'flying': False, 'sent': False})
            self.wake.notify_all()

    def hold(self, held):
        with self.wake:
            self.sending = not held
            self.wake.notify_all()

    def pending(self):
        with self.lock:
            return [{'about': n['about'], 'attempt': n['attempt'], 'due': n['due'],
                     'in_s': n['due'] - self.now()} for n in self.queue]

    def hurry(self):
        """Whatever waits to be sent once more is sent now."""
        with self.wake:
            for notice in self.queue:
                notice['due'] = min(notice['due'], self.now())
            self.wake.notify_all()

    def forget(self):
        with self.lock:
            self.queue = [n for n in self.queue if n['flying']]

    def again(self, order, times=1, parallel=True, kind=None):
        """Sends what was made for an order once more, whatever was answered and even when it is
        held; kind: only that event. Returns the answers."""
        with self.lock:
            known = self.sent[order] + [n for n in self.queue if n['about'].get('order') == order and not n['sent']]
            known = [n for n in known if kind in (None, n['about']['kind'])]
        answers = []
        for notice in known:
            threads = [threading.Thread(target=lambda: answers.append(self._post(notice))) for _ in range(times)]
            for thread in threads:
                thread.start()
                if not parallel:
                    thread.join()
            for thread in threads:
                thread.join()
        return answers

    def _deliver(self):
        while True:
            with self.wake:
                notice = min((n for n in self.queue if not n['flying']), key=lambda n: n['due'], default=None)
                if notice is None or not self.sending:
                    self.wake.wait(60)
                    continue
                wait = notice['due'] - self.now()
                if wait > 0:
                    self.wake.wait(min(wait, 60))
                    continue
                notice['flying'] = True
            threading.Thread(target=self._send, args=(notice,), daemon=True).start()

    def _send(self, notice):
        status, body = self._post(notice)
        with self.wake:
            notice['flying'] = False
            if not notice['sent']:
                notice['sent'] = True
                self.sent[notice['about'].get('order')].append(notice)
            if notice['accepts'](status, body) or notice['attempt'] >= len(notice['table']):
                self.queue = [n for n in self.queue if n is not notice]
            else:
                notice['due'] = self.now() + notice['table'][notice['attempt']]
                notice['attempt'] += 1
            self.wake.notify_all()

    def _post(self, notice):
        faults = self.faults_of('notify', notice['about'].get('order'), own=notice['own'])
        if 'delay' in faults:
            time.sleep(float(faults['delay']))
        if 'drop' in faults:
            self.note(notify=notice['about'], url=notice['url'], status=0, dropped=True)
            return 0, b''
        headers, body = notice['make'](faults)
        # Two servers of a provider may send the same within a moment.
        for _ in range(int(faults.get('parallel') or 1) - 1):
            threading.Thread(target=self._put, args=(notice, headers, body, faults), daemon=True).start()
        return self._put(notice, headers, body, faults)

    def _put(self, notice, headers, body, faults):
        request = urllib.request.Request(notice['url'], data=body, headers=headers, method='POST')
        try:
            with urllib.request.urlopen(request, timeout=faults.get('timeout') or 5) as answer:
                status, said = answer.status, answer.read(65536)
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read(65536)
        except Exception as error:  # half an answer, too, when the other side dies
            status, said = 0, str(error).encode()
        self.note(notify=notice['about'], url=notice['url'], status=status,
                  answer=said.decode('utf-8', 'replace')[:500], faults=list(faults))
        return status, said


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(',', ':'))
