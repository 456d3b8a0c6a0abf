(ns world-runtime
  "Worlds from Clojure: Babashka, and nbb where there is Node.

     (def base (create-world {}))
     (execute-in-verse (:id base) \"x = 41\")
     (def verses (push-down (:id base)))
     (:output (execute-in-verse (:world-id (:verse-nash verses)) \"x + 1\"))

   The server is at WORLDLINE_URL, or this machine's own; its token, where it asks for one, is in
   MORPH_API_KEY."
  #?(:org.babashka/nbb (:require ["node:child_process" :refer [execFileSync]])
     :default (:require [babashka.http-client :as http]
                        [cheshire.core :as json])))

(defn- variable [name]
  #?(:org.babashka/nbb (aget js/process.env name)
     :default (System/getenv name)))

#?(:org.babashka/nbb
   (def ^:private max-answer "Bytes of answers that are read, at most." (* 64 1024 1024)))

(def ^:private address (or (variable "WORLDLINE_URL") "http://127.0.0.1:7777"))

#?(:org.babashka/nbb
   ;; Node has no request that waits for its answer, so a Node of its own makes them. What they say goes
   ;; through a pipe, because arguments can be seen by others.
   (def ^:private client
     "const calls = JSON.parse(require('fs').readFileSync(0));
      const call = async ({url, headers, body}) => (await fetch(url, {method: 'POST', headers, body})).json();
      Promise.all(calls.map(call)).then((answers) => process.stdout.write(JSON.stringify(answers)));"))

(defn- post-all
  "Requests, made at once, and their answers, errors as {:error_code … :detail …}."
  [requests]
  (let [headers {"Authorization" (str "Bearer " (or (variable "MORPH_API_KEY") "none"))}]
    #?(:org.babashka/nbb
       (let [calls (for [[path body] requests]
                     {:url (str address path) :headers headers :body (js/JSON.stringify (clj->js body))})
             options #js {:input (js/JSON.stringify (clj->js calls)) :encoding "utf8" :maxBuffer max-answer}]
         (js->clj (js/JSON.parse (execFileSync js/process.execPath #js ["-e" client] options)) :keywordize-keys true))
       :default
       (let [call (fn [[path body]]
                    (future (http/post (str address path)
                                       {:headers headers :body (json/generate-string body) :throw false})))]
         (mapv #(json/parse-string (:body (deref %)) true) (mapv call requests))))))

(defn- post
  "One request and its answer."
  [path body]
  (first (post-all [[path body]])))

(defn create-world
  "A new world: {:snapshot_id … :metadata … :seed …}, all of which may be left out."
  [config]
  (post "/v1/sandboxes" config))

(defn snapshot-world
  "Keeps this moment of a world under a name; gives the snapshot's id."
  [world-id name]
  (:snapshot_id (post (str "/v1/sandboxes/" world-id "/snapshots") {:name name})))

(defn branch-world
  "A world that goes on from a snapshot, as a verse with its trit."
  [snapshot-id verse-name trit]
  (let [world (create-world {:snapshot_id snapshot-id :metadata {:verse verse-name :trit trit}})]
    {:world-id (:id world) :verse verse-name :trit trit}))

(defn push-down
  "Splits a world, or its id, into three verses whose trits sum to 0."
  [world]
  (let [snapshot-id (snapshot-world (or (:id world) world) "pre-split")
        verses {:verse-nash (branch-world snapshot-id "nash" -1)
                :verse-optimal (branch-world snapshot-id "optimal" 0)
                :verse-chaos (branch-world snapshot-id "chaos" 1)}]
    (assoc verses :gf3-sum (reduce + (map :trit (vals verses))))))

(defn execute-in-verse
  "Runs Python in a world: {:status … :output … :exit_code …}."
  [world-id code]
  (post (str "/v1/sandboxes/" world-id "/execute") {:code code}))

(defn execute-in-verses
  "Runs Python in several worlds at once: {world-id code}; gives {world-id answer}."
  [codes]
  (zipmap (keys codes)
          (post-all (for [[world-id code] codes]
                      [(str "/v1/sandboxes/" world-id "/execute") {:code code}]))))

(defn pull-up
  "Names the winner among verses and those that collapse; :wev is what the losers' :balance comes to."
  [verses oracle-result]
  (let [winner (get verses (keyword (str "verse-" (name oracle-result))))
        losers (remove #(= % winner) (filter map? (vals verses)))]
    {:winner winner
     :wev (reduce + (map #(:balance % 0) losers))
     :collapsed (map :verse losers)}))
