"""What all simulated providers share: the clock, the journal, faults, and the sending of
notifications with the providers' own retry tables."""
import collections
import json
import threading
import time
import urllib.error
import urllib.request


class World:
    """One lock guards everything; it is never held while bytes travel."""

    def __init__(self):
        self.lock = threading.RLock()
        self.offset = 0.0
        self.journal = collections.deque(maxlen=200000)
        self.faults = []
        self.queue = []
        self.sent = []
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

    def add_fault(self, kind, endpoint=None, order=None, after=0, count=1, arg=None):
        """The next `count` fitting calls (after `after` of them) meet this fault; endpoint and
        order None fit all. Kinds are listed in README.md."""
        with self.lock:
            self.faults.append({'kind': kind, 'endpoint': endpoint, 'order': order, 'after': after,
                                'count': count, 'arg': arg})

    def faults_of(self, endpoint, order):
        """Faults of one call; each counts down."""
        found = {}
        with self.lock:
            for fault in list(self.faults):
                if fault['endpoint'] not in (None, endpoint) or fault['order'] not in (None, order):
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

    # Notifications ------------------------------------------------------------------------------

    def notify(self, url, make, accepts, table, about):
        """Sends make(attempt) → (headers, body) to url until accepts(status, body), waiting
        according to table. about: what it is, for the log; about['order'] finds faults."""
        with self.wake:
            self.queue.append({'url': url, 'make': make, 'accepts': accepts, 'table': list(table),
                               'about': about, 'attempt': 0, 'due': self.now(), 'done': False})
            self.wake.notify_all()

    def hold(self, held):
        with self.wake:
            self.sending = not held
            self.wake.notify_all()

    def pending(self):
        with self.lock:
            return [{'about': n['about'], 'attempt': n['attempt'], 'due': n['due'],
                     'in_s': n['due'] - self.now()} for n in self.queue if not n['done']]

    def forget(self):
        with self.lock:
            self.queue = [n for n in self.queue if n.get('flying')]

    def again(self, order, times=1, parallel=True):
        """Sends what was sent for an order once more, whatever was answered; returns the answers."""
        with self.lock:
            known = [n for n in self.sent if n['about'].get('order') == order]
        answers = []

        def one(notice):
            answers.append(self._post(notice))

        for notice in known:
            threads = [threading.Thread(target=one, args=(notice,)) for _ in range(times)]
            for thread in threads:
                thread.start()
                if not parallel:
                    thread.join()
            for thread in threads:
                thread.join()
        return answers

    def _due(self):
        due = [n for n in self.queue if not n['done'] and not n.get('flying')]
        return min(due, key=lambda n: n['due'], default=None)

    def _deliver(self):
        while True:
            with self.wake:
                notice = self._due()
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
            if notice not in self.sent:
                self.sent.append(notice)
            if notice['accepts'](status, body):
                notice['done'] = True
            elif notice['attempt'] >= len(notice['table']):
                notice['done'] = notice['given_up'] = True
            else:
                notice['due'] = self.now() + notice['table'][notice['attempt']]
                notice['attempt'] += 1
            if notice['done'] and notice in self.queue:
                self.queue.remove(notice)
            self.wake.notify_all()

    def _post(self, notice):
        faults = self.faults_of('notify', notice['about'].get('order'))
        if 'drop' in faults:
            self.note(notify=notice['about'], url=notice['url'], status=0, dropped=True)
            return 0, b''
        headers, body = notice['make'](faults)
        request = urllib.request.Request(notice['url'], data=body, headers=headers, method='POST')
        try:
            with urllib.request.urlopen(request, timeout=faults.get('timeout') or 5) as answer:
                status, said = answer.status, answer.read(65536)
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read(65536)
        except OSError as error:
            status, said = 0, str(error).encode()
        self.note(notify=notice['about'], url=notice['url'], status=status,
                  answer=said.decode('utf-8', 'replace')[:500], faults=list(faults))
        return status, said


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(',', ':'))
